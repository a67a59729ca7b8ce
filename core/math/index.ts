/**
 * Indexing: picking and adding elements where an index points.
 *
 * An index is i32; one outside the axis is taken as the nearest inside.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { bind } from "../ops.ts";
import { normalizeAxis } from "../shape.ts";
import type { AxisOptions, Tensor } from "../tensor.ts";
import { apply, evaluate, traced } from "../trace.ts";
import { cast, eq } from "./elementwise.ts";
import { expand, reshape } from "./movement.ts";

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
  return apply("scatterAdd", [x, index, source], { axis });
}

/** One-hot vectors of i32 ids along a new last axis, f32. */
export function oneHot(ids: Tensor, classes: number): Tensor {
  return evaluate(() => {
    const shape = [...ids.shape, classes];
    const axis = ids.shape.length;
    const index = traced(bind("iota", [], { shape, dtype: ids.dtype, axis }));
    return cast(eq(reshape(ids, [...ids.shape, 1]), index), "f32");
  });
}
