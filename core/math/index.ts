/**
 * Indexing: picking and adding elements where an index points.
 *
 * An index is i32; one outside the axis is taken as the nearest inside. In `index` it counts from the back if negative.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { ShapeError } from "../errors.ts";
import { bind } from "../ops.ts";
import { expectDType } from "../rules.ts";
import {
  checkShape,
  format,
  normalizeAxis,
  sizeOf,
  stridesOf,
} from "../shape.ts";
import { Tensor } from "../tensor.ts";
import type { AxisOptions, Index, Range } from "../tensor_methods.ts";
import { apply, evaluate, traced } from "../trace.ts";
import { add, cast, clip, eq, lt, mul, where } from "./elementwise.ts";
import { expand, reshape, slice, squeeze, transpose } from "./movement.ts";

/**
 * Slices of `x` picked along an axis, 0 by default, as numpy.take: the axis is replaced by the index's axes.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { take, tensor } from "cotan";
 *
 * const x = tensor([[1, 2], [3, 4], [5, 6]]);
 * const index = tensor([2, 0], { dtype: "i32" });
 * assertEquals(await take(x, index).toArray(), [[5, 6], [1, 2]]);
 * ```
 */
export function take(
  x: Tensor,
  index: Tensor,
  options: AxisOptions = {},
): Tensor {
  return evaluate(() => {
    const axis = normalizeAxis(options.axis ?? 0, x, "take from");
    const before = x.shape.slice(0, axis), after = x.shape.slice(axis + 1);
    const flat = reshape(index, [
      ...before.map(() => 1),
      -1,
      ...after.map(() => 1),
    ]);
    const full = expand(flat, [...before, flat.shape[axis]!, ...after]);
    expectElements("take from", x, full, axis);
    const out = apply("gather", [x, full], { axis });
    return reshape(out, [...before, ...index.shape, ...after]);
  });
}

/** Elements of `x` picked along an axis, as torch.gather: out[i, j] = x[index[i, j], j] for axis 0, the default. */
export function gather(
  x: Tensor,
  index: Tensor,
  options: AxisOptions = {},
): Tensor {
  const axis = normalizeAxis(options.axis ?? 0, x, "gather from");
  expectElements("gather from", x, index, axis);
  return apply("gather", [x, index], { axis });
}

/** `x` with `source` added where the index points along an axis, as torch.scatter_add. Deterministic. */
export function scatterAdd(
  x: Tensor,
  index: Tensor,
  source: Tensor,
  options: AxisOptions = {},
): Tensor {
  const axis = normalizeAxis(options.axis ?? 0, x, "scatterAdd into");
  expectElements("scatterAdd into", x, index, axis);
  return apply("scatterAdd", [x, index, source], { axis });
}

/** Throws where an index points into an axis that has no nearest element. */
function expectElements(op: string, x: Tensor, at: Tensor, axis: number): void {
  if (x.shape[axis] !== 0 || sizeOf(at.shape) === 0) return;
  throw new ShapeError(
    `Cannot ${op} ${format(x)} along axis ${axis}: it is empty, and the index ${
      format(at)
    } is not`,
  );
}

/**
 * Elements of `x` as NumPy's brackets pick them, an item for each leading axis: a number takes one element and drops
 * the axis, a range [start, stop, step] is that of `slice`, null takes the whole axis, and an i32 tensor takes along
 * the axis. Negative numbers count from the back. Several tensors broadcast together; their axes stand where the first
 * indexed axis was if those axes are neighbours, else in front. Numbers drop their axes before.
 *
 * Throws `ShapeError` where a number is out of range; an element of a tensor that is counts as the nearest inside.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { index, tensor } from "cotan";
 *
 * const x = tensor([[1, 2, 3], [4, 5, 6]]);
 * assertEquals(await index(x, [-1]).toArray(), [4, 5, 6]);
 * assertEquals(await index(x, [null, [0, 2]]).toArray(), [[1, 2], [4, 5]]);
 * const rows = tensor([1, 0], { dtype: "i32" }), columns = tensor([2, 0], { dtype: "i32" });
 * assertEquals(await index(x, [rows, columns]).toArray(), [6, 1]);
 * ```
 */
export function index(x: Tensor, at: readonly Index[]): Tensor {
  const { shape } = x;
  if (at.length > shape.length) {
    throw new ShapeError(
      `Cannot index ${
        format(x)
      } by ${at.length} items: it has ${shape.length} axes`,
    );
  }
  const ranges = at.map((item, axis): Range => {
    if (item === null || item instanceof Tensor) return null;
    if (typeof item !== "number") return item;
    const size = shape[axis]!;
    if (!Number.isInteger(item) || item < -size || item >= size) {
      throw new ShapeError(
        `Cannot index ${
          format(x)
        } at ${item}: axis ${axis} goes from ${-size} to ${size - 1}`,
      );
    }
    return [item, item === -1 ? null : item + 1];
  });
  return evaluate(() => {
    const dropped = at.flatMap((item, i) =>
      typeof item === "number" ? [i] : []
    );
    const picked = squeeze(slice(x, ranges), dropped);
    const left = at.filter((item) => typeof item !== "number");
    const axes = left.flatMap((item, i) => item instanceof Tensor ? [i] : []);
    const tensors = left.filter((item) => item instanceof Tensor);
    if (tensors.length === 0) return picked;
    return takeTogether(picked, tensors, axes);
  });
}

/** Elements at the same place of several indices, one for each of the axes, which become one. */
function takeTogether(x: Tensor, indices: Tensor[], axes: number[]): Tensor {
  const sizes = axes.map((axis) => x.shape[axis]!);
  const [first] = axes;
  const adjacent = axes.every((axis, i) => axis === first! + i);
  const rest = x.shape.map((_, i) => i).filter((i) => !axes.includes(i));
  const to = adjacent ? first! : 0;
  const front = transpose(x, rest.toSpliced(to, 0, ...axes));
  const flat = reshape(
    front,
    front.shape.toSpliced(to, axes.length, sizeOf(sizes)),
  );
  const strides = stridesOf(sizes);
  const places = indices.map((at, i) => {
    expectDType("index by", at, (dtype) => dtype === "i32", "i32");
    const size = sizes[i]!;
    const fromFront = clip(where(lt(at, 0), add(at, size), at), 0, size - 1);
    return mul(fromFront, strides[i]!);
  });
  return take(flat, places.reduce((sum, place) => add(sum, place)), {
    axis: to,
  });
}

/** One-hot vectors of i32 ids along a new last axis, f32. */
export function oneHot(ids: Tensor, classes: number): Tensor {
  checkShape([classes], "take oneHot of");
  return evaluate(() => {
    const shape = [...ids.shape, classes];
    const axis = ids.shape.length;
    const index = traced(bind("iota", [], { shape, dtype: ids.dtype, axis }));
    return cast(eq(reshape(ids, [...ids.shape, 1]), index), "f32");
  });
}
