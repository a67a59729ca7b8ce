/**
 * Reductions over axes, and the functions along an axis that are made of them.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { customVjp } from "../custom_vjp.ts";
import { DTypeError, ShapeError } from "../errors.ts";
import { expectNumber } from "../rules.ts";
import { format, normalizeAxes, normalizeAxis, type Shape } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import type { AxisOptions, ReduceOptions } from "../tensor_methods.ts";
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
  mul,
  not,
  or,
  reciprocal,
  reverseOrder,
  square,
  stopGradient,
  sub,
  where,
} from "./elementwise.ts";
import { padAxis, sliceAxis } from "./axis.ts";
import { constant } from "./broadcast.ts";
import { reshape, squeeze } from "./movement.ts";

/** Reduces by a primitive; keeps the axes with size 1 where asked. */
function reduce(op: "sum" | "max", x: Tensor, options: ReduceOptions): Tensor {
  return evaluate(() => {
    const axes = normalizeAxes(options.axis, x, op);
    const out = apply(op, [x], { axes });
    return options.keepDims ? reshape(out, kept(x.shape, axes)) : out;
  });
}

function expectSome(what: string, x: Tensor, axes: Shape): void {
  if (axes.every((axis) => x.shape[axis] !== 0)) return;
  throw new ShapeError(
    `Cannot take the ${what} of ${format(x)}: a reduced axis is empty`,
  );
}

function kept(shape: Shape, axes: Shape): number[] {
  return shape.map((d, i) => axes.includes(i) ? 1 : d);
}

function countOf(x: Tensor, options: ReduceOptions, op: string): number {
  const axes = normalizeAxes(options.axis, x, op);
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
  const count = countOf(x, options, "take the mean of");
  return evaluate(() => div(sum(x, options), count));
}

/** Largest over axes; NaN if one is; its gradient is shared equally among ties. */
export function max(x: Tensor, options: ReduceOptions = {}): Tensor {
  expectSome("largest", x, normalizeAxes(options.axis, x, "max"));
  return reduce("max", x, options);
}

/** Smallest over axes; NaN if one is; its gradient is shared equally among ties. */
export function min(x: Tensor, options: ReduceOptions = {}): Tensor {
  expectSome("smallest", x, normalizeAxes(options.axis, x, "min"));
  expectNumber("min", x);
  return evaluate(() => reverseOrder(max(reverseOrder(x), options)));
}

/**
 * Product over axes, 1 where there is nothing; f32, i32 or u32. Its gradient is exact where elements are 0.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { grad, prod, tensor } from "cotan";
 *
 * const x = tensor([2, 0, 4]);
 * assertEquals(await prod(x).item(), 0);
 * assertEquals(await grad((x) => prod(x))(x).toArray(), [0, 8, 0]);
 * ```
 */
export function prod(x: Tensor, options: ReduceOptions = {}): Tensor {
  const axes = normalizeAxes(options.axis, x, "prod");
  expectNumber("prod", x);
  return evaluate(() => {
    const out = axes.reduce(prodAlong, x);
    const shape = x.shape.filter((_, i) => !axes.includes(i));
    return reshape(out, options.keepDims ? kept(x.shape, axes) : shape);
  });
}

/** The product along an axis, which stays with size 1: half of it by the other half, until one is left. */
function prodAlong(x: Tensor, axis: number): Tensor {
  let size = x.shape[axis]!;
  if (size === 0) return padAxis(x, axis, [0, 1], 1);
  while (size > 1) {
    const even = padAxis(x, axis, [0, size % 2], 1);
    size = Math.ceil(size / 2);
    x = mul(
      sliceAxis(even, axis, [0, size]),
      sliceAxis(even, axis, [size, null]),
    );
  }
  return x;
}

/** Variance over axes; the sum of squares is divided by the count less `correction`, 0 by default. */
export function variance(
  x: Tensor,
  options: ReduceOptions & { readonly correction?: number } = {},
): Tensor {
  expectFloat("take the variance of", x);
  const count = countOf(x, options, "take the variance of");
  return evaluate(() => {
    const center = mean(x, { ...options, keepDims: true });
    const squares = sum(square(sub(x, center)), options);
    return div(squares, Math.max(0, count - (options.correction ?? 0)));
  });
}

/** log Σ eˣ over axes, without overflow. */
export function logSumExp(x: Tensor, options: ReduceOptions = {}): Tensor {
  expectFloat("take logSumExp of", x);
  const axes = normalizeAxes(options.axis, x, "take logSumExp of");
  return evaluate(() => {
    const top = finiteMax(x, options);
    const out = add(
      log(sum(exp(sub(x, top)), { ...options, keepDims: true })),
      top,
    );
    return options.keepDims ? out : squeeze(out, axes);
  });
}

/** The largest element with no gradient, 0 where it is infinite, so that differences from it are never NaN. */
function finiteMax(x: Tensor, options: ReduceOptions): Tensor {
  const top = stopGradient(reduce("max", x, { ...options, keepDims: true }));
  return where(lt(abs(top), Infinity), top, 0);
}

/** eˣ / Σ eˣ along an axis, the last by default. */
export function softmax(x: Tensor, options: AxisOptions = {}): Tensor {
  expectFloat("take softmax of", x);
  const axis = normalizeAxis(options.axis ?? -1, x, "take softmax of");
  const total = (y: Tensor): Tensor => sum(y, { axis, keepDims: true });
  const composite = (x: Tensor): Tensor => {
    const e = exp(sub(x, finiteMax(x, { axis })));
    return mul(e, reciprocal(total(e)));
  };
  // From the result alone, so that x need not be kept: dx = y (ct - Σ y ct).
  return customVjp(composite, {
    fwd: (x) => {
      const out = composite(x);
      return { out, residuals: out };
    },
    bwd: (y, ct) => [mul(y, sub(ct, total(mul(y, ct))))],
  })(x);
}

/** log softmax along an axis, the last by default. */
export function logSoftmax(x: Tensor, options: AxisOptions = {}): Tensor {
  expectFloat("take logSoftmax of", x);
  const axis = normalizeAxis(options.axis ?? -1, x, "take logSoftmax of");
  return evaluate(() => {
    // The largest goes first: with it in the sum, large logits would lose the digits of small differences.
    const shifted = sub(x, finiteMax(x, { axis }));
    return sub(shifted, log(sum(exp(shifted), { axis, keepDims: true })));
  });
}

/** Index of the first largest element along an axis, i32; along the whole of a vector by default. */
export function argmax(x: Tensor, options: AxisOptions = {}): Tensor {
  const axis = normalizeAxis(options.axis ?? -1, x, "argmax");
  expectSome("argmax", x, [axis]);
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
  const axis = normalizeAxis(options.axis ?? -1, x, "argmin");
  expectSome("argmin", x, [axis]);
  expectNumber("argmin", x);
  return evaluate(() => argmax(reverseOrder(x), { axis }));
}

function expectFloat(what: string, x: Tensor): void {
  if (x.dtype !== "f32") {
    throw new DTypeError(
      `Cannot ${what} ${format(x)}: it must be f32; use cast`,
    );
  }
}
