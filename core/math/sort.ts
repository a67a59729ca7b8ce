/**
 * Sorting along an axis.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { ShapeError } from "../errors.ts";
import { expectWide } from "../rules.ts";
import { format, normalizeAxis, type Shape } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import type { AxisOptions, SortOptions, TopK } from "../tensor_methods.ts";
import { evaluate } from "../trace.ts";
import { moveAxis, padAxis, sliceAxis } from "./axis.ts";
import { iota, zeros } from "./create.ts";
import {
  add,
  and,
  cast,
  eq,
  ge,
  isNaN,
  lt,
  maximum,
  minimum,
  mul,
  not,
  or,
  reverseOrder,
  sub,
  where,
} from "./elementwise.ts";
import { gather, scatterAdd } from "./index.ts";
import { flip, reshape, unsqueeze } from "./movement.ts";
import { sum } from "./reduce.ts";

/**
 * Indices that sort `x` along an axis, the last by default; i32, of the shape of `x`.
 *
 * Equal elements stay in their order, in either direction. NaN counts as the largest, so it comes last, or first where
 * `descending`, as in PyTorch; -0 equals 0.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { argsort, tensor } from "cotan";
 *
 * const x = tensor([2, 1, 2, 3]);
 * assertEquals(await argsort(x).toArray(), [1, 0, 2, 3]);
 * assertEquals(await argsort(x, { descending: true }).toArray(), [3, 0, 2, 1]);
 * ```
 */
export function argsort(x: Tensor, options: SortOptions = {}): Tensor {
  const axis = normalizeAxis(options.axis ?? -1, x, "argsort");
  expectWide("argsort", x);
  return evaluate(() => {
    const last = x.shape.length - 1;
    const sorted = argsortLast(
      moveAxis(x, axis, last),
      options.descending ?? false,
    );
    return moveAxis(sorted, last, axis);
  });
}

/**
 * The elements of `x` in the order of `argsort`. A gradient goes back to where each element came from.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { sort, tensor } from "cotan";
 *
 * assertEquals(await sort(tensor([NaN, 3, 1])).toArray(), [1, 3, NaN]);
 * ```
 */
export function sort(x: Tensor, options: SortOptions = {}): Tensor {
  const axis = normalizeAxis(options.axis ?? -1, x, "sort");
  expectWide("sort", x);
  return evaluate(() => gather(x, argsort(x, options), { axis }));
}

/**
 * The `k` largest elements along an axis, the last by default, largest first, and their indices, i32. The first of
 * equal ones comes first, and NaN is the largest.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor, topK } from "cotan";
 *
 * const { values, indices } = topK(tensor([2, 5, 3]), 2);
 * assertEquals(await values.toArray(), [5, 3]);
 * assertEquals(await indices.toArray(), [1, 2]);
 * ```
 */
export function topK(
  x: Tensor,
  k: number,
  options: AxisOptions = {},
): TopK {
  const axis = normalizeAxis(options.axis ?? -1, x, "take topK of");
  expectWide("take topK of", x);
  const size = x.shape[axis]!;
  if (!Number.isInteger(k) || k < 0 || k > size) {
    throw new ShapeError(
      `Cannot take topK of ${
        format(x)
      }: k is ${k}, and axis ${axis} has size ${size}`,
    );
  }
  return evaluate(() => {
    const order = argsort(x, { axis, descending: true });
    const indices = sliceAxis(order, axis, [0, k]);
    return { values: gather(x, indices, { axis }), indices };
  });
}

/** Size of the blocks that are sorted by counting. */
const BLOCK = 128;

/** The key after all others. */
const LAST = { f32: Infinity, i32: 2 ** 31 - 1, u32: 2 ** 32 - 1 };

/** Keys to be sorted, none of them NaN, and the places of elements, which decide between equal keys. */
type Pairs = readonly [keys: Tensor, places: Tensor];

/**
 * `argsort` along the last axis: blocks are sorted by counting, and merged by Batcher's bitonic sorter (1968) in the
 * form that compares a run with the next one reversed, so that all runs ascend.
 */
function argsortLast(x: Tensor, descending: boolean): Tensor {
  const outer = x.shape.slice(0, -1), size = x.shape.at(-1)!;
  const rank = outer.length;
  const blocks = 2 ** Math.max(0, Math.ceil(Math.log2(size / BLOCK)));
  const width = blocks > 1 ? BLOCK : Math.max(1, size), padded = blocks * width;
  const extend = (x: Tensor, value: number): Tensor =>
    padAxis(x, rank, [0, padded - size], value);
  const view = (pairs: Pairs, ...shape: Shape): Pairs =>
    pairs.map((x) => reshape(x, [...outer, ...shape])) as [Tensor, Tensor];

  const numbers = x.dtype === "bool" ? cast(x, "i32") : x;
  const nan = isNaN(numbers);
  const ordered = x.dtype === "f32" ? where(nan, Infinity, x) : numbers;
  const keys = descending ? reverseOrder(ordered) : ordered;
  // A NaN has the key of an infinity; among equal keys it is the last, or the first.
  const late = extend(cast(descending ? not(nan) : nan, "i32"), 1);
  const place = iota(late.shape, { axis: rank });
  let pairs: Pairs = [
    extend(keys, LAST[keys.dtype as keyof typeof LAST]),
    add(place, mul(late, padded)),
  ];
  pairs = countingSort(view(pairs, blocks, width));
  for (let run = 2 * width; run <= padded; run *= 2) {
    pairs = compareExchange(view(pairs, padded / run, run), rank + 1);
    for (let apart = run / 4; apart >= 1; apart /= 2) {
      const pieces = view(pairs, padded / (2 * apart), 2, apart);
      pairs = compareExchange(pieces, rank + 1);
    }
  }
  const [, sorted] = view(pairs, padded);
  const first = sliceAxis(sorted!, rank, [0, size]);
  return where(ge(first, padded), sub(first, padded), first);
}

function comesBefore([a, i]: Pairs, [b, j]: Pairs): Tensor {
  return or(lt(a, b), and(eq(a, b), lt(i, j)));
}

/** Sorts along the last axis: an element's rank is the number of those before it. */
function countingSort(pairs: Pairs): Pairs {
  const along = (axis: number) =>
    pairs.map((x) => unsqueeze(x, axis)) as [Tensor, Tensor];
  const isBefore = comesBefore(along(-2), along(-1));
  const rank = sum(cast(isBefore, "i32"), { axis: -1 });
  return pairs.map((x) =>
    scatterAdd(zeros(x.shape, { dtype: x.dtype }), rank, x, { axis: -1 })
  ) as [Tensor, Tensor];
}

/** Orders each element and the one opposite on an axis: the smaller goes to the front half. */
function compareExchange(pairs: Pairs, axis: number): Pairs {
  const [keys, places] = pairs;
  const { shape } = keys;
  const size = shape[axis]!;
  const at = iota(shape, { axis });
  const isFront = lt(at, size / 2);
  const opposite: Pairs = [flip(keys, axis), flip(places, axis)];
  const exchanges = eq(comesBefore(opposite, pairs), isFront);
  return [
    where(
      isFront,
      minimum(keys, opposite[0]),
      maximum(keys, opposite[0]),
    ),
    where(exchanges, opposite[1], places),
  ];
}
