/**
 * Cumulative sums.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { expectNumber } from "../rules.ts";
import { normalizeAxis } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import type { AxisOptions } from "../tensor_methods.ts";
import { evaluate } from "../trace.ts";
import { moveAxis, padAxis, sliceAxis } from "./axis.ts";
import { iota } from "./create.ts";
import { add, le, where } from "./elementwise.ts";
import { reshape, unsqueeze } from "./movement.ts";
import { sum } from "./reduce.ts";

/** Size of the blocks in which each sum is taken by itself. */
const BLOCK = 32;

/**
 * Sums of the elements up to each and with it, along an axis, the last by default; of the type of `x`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { cumsum, tensor } from "cotan";
 *
 * assertEquals(await cumsum(tensor([1, 2, 3])).toArray(), [1, 3, 6]);
 * ```
 */
export function cumsum(x: Tensor, options: AxisOptions = {}): Tensor {
  const axis = normalizeAxis(options.axis ?? -1, x, "cumsum");
  expectNumber("cumsum", x);
  const last = x.shape.length - 1;
  return evaluate(() =>
    moveAxis(cumsumLast(moveAxis(x, axis, last)), last, axis)
  );
}

/** Sums within blocks, and to them the sums of the blocks before. */
function cumsumLast(x: Tensor): Tensor {
  const outer = x.shape.slice(0, -1), size = x.shape.at(-1)!;
  if (size === 0) return x;
  const axis = outer.length;
  const width = Math.min(size, BLOCK), blocks = Math.ceil(size / width);
  const whole = padAxis(x, axis, [0, blocks * width - size]);
  const rows = reshape(whole, [...outer, blocks, 1, width]);
  const isUpTo = le(iota([width, width], { axis: 1 }), iota([width, width]));
  let sums = sum(where(isUpTo, rows, 0), { axis: -1 });
  if (blocks > 1) {
    const totals = reshape(sliceAxis(sums, axis + 1, [-1, width]), [
      ...outer,
      blocks,
    ]);
    const before = sliceAxis(cumsumLast(totals), axis, [0, -1]);
    sums = add(sums, unsqueeze(padAxis(before, axis, [1, 0]), -1));
  }
  return sliceAxis(reshape(sums, whole.shape), axis, [0, size]);
}
