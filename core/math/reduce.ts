/**
 * Reductions over axes, and the functions along an axis that are made of them.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { DTypeError, ShapeError } from "../errors.ts";
import { format, normalizeAxes, normalizeAxis, type Shape } from "../shape.ts";
import type { AxisOptions, ReduceOptions, Tensor } from "../tensor.ts";
import { apply, evaluate, traced } from "../trace.ts";
import { bind } from "../ops.ts";
import {
  abs,
  add,
  div,
  eq,
  exp,
  log,
  lt,
  neg,
  not,
  or,
  square,
  stopGradient,
  sub,
  where,
} from "./elementwise.ts";
import { constant } from "./broadcast.ts";
import { reshape, squeeze } from "./movement.ts";

/** Reduces by a primitive; keeps the axes with size 1 where asked. */
function reduce(op: "sum" | "max", x: Tensor, options: ReduceOptions): Tensor {
  return evaluate(() => {
    const axes = normalizeAxes(options.axis, x, op);
    if (op === "max" && axes.some((axis) => x.shape[axis] === 0)) {
      throw new ShapeError(
        `Cannot take the largest of ${format(x)}: a reduced axis is empty`,
      );
    }
    const out = apply(op, [x], { axes });
    return options.keepDims ? reshape(out, kept(x.shape, axes)) : out;
  });
}

function kept(shape: Shape, axes: Shape): number[] {
  return shape.map((d, i) => axes.includes(i) ? 1 : d);
}

function countOf(x: Tensor, options: ReduceOptions): number {
  const axes = normalizeAxes(options.axis, x, "reduce");
  return axes.reduce((count, axis) => count * x.shape[axis]!, 1);
}

/**
 * Sum over axes.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { sum, tensor } from "cotan";
 *
 * const x = tensor([[1, 2], [3, 4]]);
 * assertEquals(await sum(x, { axis: -1 }).toArray(), [3, 7]);
 * ```
 */
export function sum(x: Tensor, options: ReduceOptions = {}): Tensor {
  return reduce("sum", x, options);
}

/** Mean over axes. */
export function mean(x: Tensor, options: ReduceOptions = {}): Tensor {
  expectFloat("take the mean of", x);
  return evaluate(() => div(sum(x, options), countOf(x, options)));
}

/** Largest over axes; NaN if one is; its gradient is shared equally among ties. */
export function max(x: Tensor, options: ReduceOptions = {}): Tensor {
  return reduce("max", x, options);
}

/** Smallest over axes; NaN if one is; its gradient is shared equally among ties. */
export function min(x: Tensor, options: ReduceOptions = {}): Tensor {
  return evaluate(() => neg(max(neg(x), options)));
}

/** Variance over axes; the sum of squares is divided by the count less `correction`, 0 by default. */
export function variance(
  x: Tensor,
  options: ReduceOptions & { readonly correction?: number } = {},
): Tensor {
  expectFloat("take the variance of", x);
  return evaluate(() => {
    const center = mean(x, { ...options, keepDims: true });
    const squares = sum(square(sub(x, center)), options);
    return div(squares, countOf(x, options) - (options.correction ?? 0));
  });
}

/** log Σ eˣ over axes, without overflow. */
export function logSumExp(x: Tensor, options: ReduceOptions = {}): Tensor {
  expectFloat("take logSumExp of", x);
  return evaluate(() => {
    const top = finiteMax(x, options);
    const out = add(
      log(sum(exp(sub(x, top)), { ...options, keepDims: true })),
      top,
    );
    const axes = normalizeAxes(options.axis, x, "reduce");
    return options.keepDims ? out : squeeze(out, axes);
  });
}

/** The largest element with no gradient, 0 where it is infinite, so that differences from it are never NaN. */
function finiteMax(x: Tensor, options: ReduceOptions): Tensor {
  const top = stopGradient(max(x, { ...options, keepDims: true }));
  return where(lt(abs(top), Infinity), top, 0);
}

/** eˣ / Σ eˣ along an axis, the last by default. */
export function softmax(x: Tensor, options: AxisOptions = {}): Tensor {
  expectFloat("take softmax of", x);
  const axis = options.axis ?? -1;
  return evaluate(() => {
    const e = exp(sub(x, finiteMax(x, { axis })));
    return div(e, sum(e, { axis, keepDims: true }));
  });
}

/** log softmax along an axis, the last by default. */
export function logSoftmax(x: Tensor, options: AxisOptions = {}): Tensor {
  expectFloat("take logSoftmax of", x);
  const axis = options.axis ?? -1;
  return evaluate(() => {
    // The largest goes first: with it in the sum, large logits would lose the digits of small differences.
    const shifted = sub(x, finiteMax(x, { axis }));
    return sub(shifted, log(sum(exp(shifted), { axis, keepDims: true })));
  });
}

/** Index of the first largest element along an axis, i32; along the whole of a vector by default. */
export function argmax(x: Tensor, options: AxisOptions = {}): Tensor {
  const axis = normalizeAxis(options.axis ?? -1, x, "argmax");
  return evaluate(() => {
    const size = x.shape[axis]!;
    const top = max(x, { axis, keepDims: true });
    const index = traced(
      bind("iota", [], { shape: x.shape, dtype: "i32", axis }),
    );
    // The first of several has the largest distance from the end. A NaN is the largest, as in NumPy.
    const isTop = or(eq(x, top), not(eq(x, x)));
    const fromEnd = where(isTop, sub(constant(size - 1, "i32", []), index), -1);
    return sub(constant(size - 1, "i32", []), max(fromEnd, { axis }));
  });
}

/** Index of the first smallest element along an axis, i32; along the last by default. */
export function argmin(x: Tensor, options: AxisOptions = {}): Tensor {
  return evaluate(() => argmax(neg(x), options));
}

function expectFloat(what: string, x: Tensor): void {
  if (x.dtype !== "f32") {
    throw new DTypeError(
      `Cannot ${what} ${format(x)}: it must be f32; use cast`,
    );
  }
}
