/**
 * Elementwise functions: arithmetic, comparison, and the activations made of them.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { DType } from "../dtype.ts";
import { DTypeError, ShapeError } from "../errors.ts";
import type { ElementwiseName, None, Params } from "../node.ts";
import { fill } from "../ops.ts";
import { broadcastShapes, format, type Shape } from "../shape.ts";
import type { Tensor, TensorLike } from "../tensor.ts";
import { apply, evaluate, traced } from "../trace.ts";
import { expand } from "./movement.ts";

type Plain = {
  [K in ElementwiseName]: Params[K] extends None ? K : never;
}[ElementwiseName];

/** A tensor of one number, alike another in dtype; for use while tracing. */
export function constant(value: number, dtype: DType, shape: Shape): Tensor {
  return traced(fill({ shape, dtype }, value));
}

/** Operands broadcast to one shape; numbers take the dtype of the tensors. */
function broadcast(op: string, operands: readonly TensorLike[]): Tensor[] {
  const tensors = operands.filter((x) => typeof x !== "number");
  const [first] = tensors;
  if (!first) {
    throw new DTypeError(`Cannot ${op} numbers alone: pass a tensor`);
  }
  const dtype = tensors.at(-1)!.dtype;
  let shape: Shape = first.shape;
  for (const x of tensors) {
    const both = broadcastShapes(shape, x.shape);
    if (!both) {
      throw new ShapeError(
        `Cannot ${op} ${format(first)} and ${format(x)}: ${
          mismatch(shape, x.shape)
        }`,
      );
    }
    shape = both;
  }
  return operands.map((x) =>
    typeof x === "number"
      ? constant(checkNumber(op, x, dtype), dtype, shape)
      : expand(x, shape)
  );
}

function expectOneDType(op: string, operands: readonly TensorLike[]): void {
  const [first, ...rest] = operands.filter((x) => typeof x !== "number");
  const other = rest.find((x) => x.dtype !== first!.dtype);
  if (!other) return;
  throw new DTypeError(
    `Cannot ${op} ${format(first!)} and ${
      format(other)
    }: the dtypes differ; use cast`,
  );
}

function checkNumber(op: string, x: number, dtype: DType): number {
  if (dtype !== "f32" && !Number.isInteger(x)) {
    throw new DTypeError(
      `Cannot ${op} the number ${x} and a tensor of ${dtype}: it is no integer; use cast`,
    );
  }
  return x;
}

function mismatch(a: Shape, b: Shape): string {
  for (let i = 1; i <= Math.min(a.length, b.length); i++) {
    const x = a.at(-i)!, y = b.at(-i)!;
    if (x !== y && x !== 1 && y !== 1) {
      return `sizes ${x} and ${y} on axis ${-i} do not broadcast`;
    }
  }
  return "the shapes do not broadcast";
}

function unary(op: Plain, x: Tensor): Tensor {
  return apply(op, [x], {});
}

function binary(
  op: Plain,
  x: TensorLike,
  y: TensorLike,
  name: string = op,
): Tensor {
  return evaluate(() => {
    expectOneDType(name, [x, y]);
    return apply(op, broadcast(name, [x, y]), {});
  });
}

/** -x. */
export function neg(x: Tensor): Tensor {
  return unary("neg", x);
}

/** |x|. */
export function abs(x: Tensor): Tensor {
  return unary("abs", x);
}

/** -1, 0 or 1; NaN for NaN. */
export function sign(x: Tensor): Tensor {
  return unary("sign", x);
}

/** √x. */
export function sqrt(x: Tensor): Tensor {
  return unary("sqrt", x);
}

/** eˣ. */
export function exp(x: Tensor): Tensor {
  return unary("exp", x);
}

/** eˣ - 1, exact near 0. */
export function expm1(x: Tensor): Tensor {
  return unary("expm1", x);
}

/** Natural logarithm. */
export function log(x: Tensor): Tensor {
  return unary("log", x);
}

/** log(1 + x), exact near 0. */
export function log1p(x: Tensor): Tensor {
  return unary("log1p", x);
}

/** Sine of radians. */
export function sin(x: Tensor): Tensor {
  return unary("sin", x);
}

/** Cosine of radians. */
export function cos(x: Tensor): Tensor {
  return unary("cos", x);
}

/** Hyperbolic tangent. */
export function tanh(x: Tensor): Tensor {
  return unary("tanh", x);
}

/** Error function. */
export function erf(x: Tensor): Tensor {
  return unary("erf", x);
}

/** Rounded down. */
export function floor(x: Tensor): Tensor {
  return unary("floor", x);
}

/** Logical not of a bool tensor. */
export function not(x: Tensor): Tensor {
  return unary("not", x);
}

/** The same value, from which no gradient flows. */
export function stopGradient(x: Tensor): Tensor {
  return unary("stopGradient", x);
}

/** x converted to a dtype: truncated toward zero to integers, x ≠ 0 to bool. */
export function cast(x: Tensor, dtype: DType): Tensor {
  return apply("cast", [x], { dtype });
}

/** x². */
export function square(x: Tensor): Tensor {
  return binary("mul", x, x, "square");
}

/** 1 / √x. */
export function rsqrt(x: Tensor): Tensor {
  return evaluate(() => div(1, sqrt(x)));
}

/** 1 / x. */
export function reciprocal(x: Tensor): Tensor {
  return div(1, x);
}

/** Tangent of radians. */
export function tan(x: Tensor): Tensor {
  return evaluate(() => div(sin(x), cos(x)));
}

/** Rounded up. */
export function ceil(x: Tensor): Tensor {
  return evaluate(() => neg(floor(neg(x))));
}

/** Rounded to the nearest integer, halves to the even one. */
export function round(x: Tensor): Tensor {
  return evaluate(() => {
    const down = floor(x);
    const rest = sub(x, down);
    const odd = ne(mul(floor(mul(down, 0.5)), 2), down);
    const up = or(gt(rest, 0.5), and(eq(rest, 0.5), odd));
    return where(up, add(down, 1), down);
  });
}

/** Rounded toward zero. */
export function trunc(x: Tensor): Tensor {
  return evaluate(() => where(lt(x, 0), ceil(x), floor(x)));
}

/** 1 / (1 + e⁻ˣ), by e^-|x| so that neither it nor its gradient overflows and small values keep their digits. */
export function sigmoid(x: Tensor): Tensor {
  return evaluate(() => {
    const below = lt(x, 0);
    const e = exp(where(below, x, neg(x)));
    return div(where(below, e, 1), add(e, 1));
  });
}

/** log(sigmoid(x)) = -softplus(-x). */
export function logSigmoid(x: Tensor): Tensor {
  return evaluate(() => neg(softplus(neg(x))));
}

/** log(1 + eˣ) = max(x, 0) + log1p(e^-|x|). */
export function softplus(x: Tensor): Tensor {
  return evaluate(() => add(relu(x), log1p(exp(neg(abs(x))))));
}

/** max(x, 0); NaN for NaN; its gradient at 0 is 0. */
export function relu(x: Tensor): Tensor {
  return evaluate(() => where(le(x, 0), 0, x));
}

/** x where positive, slope · x elsewhere; slope 0.01. */
export function leakyRelu(
  x: Tensor,
  options: { readonly slope?: number } = {},
): Tensor {
  return evaluate(() => where(gt(x, 0), x, mul(x, options.slope ?? 0.01)));
}

/** x where positive, alpha · (eˣ - 1) elsewhere; alpha 1. */
export function elu(
  x: Tensor,
  options: { readonly alpha?: number } = {},
): Tensor {
  return evaluate(() => {
    const negative = mul(expm1(minimum(x, 0)), options.alpha ?? 1);
    return where(gt(x, 0), x, negative);
  });
}

/** x · sigmoid(x). */
export function silu(x: Tensor): Tensor {
  return evaluate(() => mul(x, sigmoid(x)));
}

/**
 * x · Φ(x) with the normal distribution's Φ; `approximate: "tanh"` takes Hendrycks and Gimpel's form, as GPT-2 does.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { gelu, tensor } from "cotan";
 *
 * assertAlmostEquals(await gelu(tensor(1)).item(), 0.8413447, 1e-6);
 * ```
 */
export function gelu(
  x: Tensor,
  options: { readonly approximate?: "none" | "tanh" } = {},
): Tensor {
  return evaluate(() => {
    const half = mul(x, 0.5);
    if (options.approximate !== "tanh") {
      return mul(half, add(erf(mul(x, Math.SQRT1_2)), 1));
    }
    const inner = add(x, mul(mul(square(x), x), 0.044715));
    return mul(half, add(tanh(mul(inner, Math.sqrt(2 / Math.PI))), 1));
  });
}

/** Limited to [min, max]. */
export function clip(x: Tensor, min: number, max: number): Tensor {
  return evaluate(() => minimum(maximum(x, min), max));
}

/** Whether each element is NaN. */
export function isNaN(x: Tensor): Tensor {
  return evaluate(() => not(eq(x, x)));
}

/** x + y. */
export function add(x: TensorLike, y: TensorLike): Tensor {
  return binary("add", x, y);
}

/** x - y. */
export function sub(x: TensorLike, y: TensorLike): Tensor {
  return binary("sub", x, y);
}

/** x · y. */
export function mul(x: TensorLike, y: TensorLike): Tensor {
  return binary("mul", x, y);
}

/** x / y; integers are truncated toward zero, and x / 0 is 0 for them. */
export function div(x: TensorLike, y: TensorLike): Tensor {
  return binary("div", x, y);
}

/** xʸ. */
export function pow(x: TensorLike, y: TensorLike): Tensor {
  return binary("pow", x, y);
}

/** The smaller of x and y; NaN if either is; the gradient is shared by equal ones. */
export function minimum(x: TensorLike, y: TensorLike): Tensor {
  return binary("minimum", x, y);
}

/** The larger of x and y; NaN if either is; the gradient is shared by equal ones. */
export function maximum(x: TensorLike, y: TensorLike): Tensor {
  return binary("maximum", x, y);
}

/** Whether x = y. */
export function eq(x: TensorLike, y: TensorLike): Tensor {
  return binary("eq", x, y);
}

/** Whether x < y. */
export function lt(x: TensorLike, y: TensorLike): Tensor {
  return binary("lt", x, y);
}

/** Whether both are true. */
export function and(x: Tensor, y: Tensor): Tensor {
  return binary("and", x, y);
}

/** Whether either is true. */
export function or(x: Tensor, y: Tensor): Tensor {
  return binary("or", x, y);
}

/** Whether x ≠ y. */
export function ne(x: TensorLike, y: TensorLike): Tensor {
  return evaluate(() => not(binary("eq", x, y, "ne")));
}

/** Whether x > y. */
export function gt(x: TensorLike, y: TensorLike): Tensor {
  return evaluate(() => {
    expectOneDType("gt", [x, y]);
    const [a, b] = broadcast("gt", [x, y]);
    return apply("lt", [b!, a!], {});
  });
}

/** Whether x ≤ y. */
export function le(x: TensorLike, y: TensorLike): Tensor {
  return evaluate(() => or(binary("lt", x, y, "le"), eq(x, y)));
}

/** Whether x ≥ y. */
export function ge(x: TensorLike, y: TensorLike): Tensor {
  return evaluate(() => or(binary("lt", y, x, "ge"), eq(x, y)));
}

/**
 * x where the condition is true, y elsewhere; all three broadcast.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor, where } from "cotan";
 *
 * const x = tensor([-1, 2]);
 * assertEquals(await where(x.gt(0), x, 0).toArray(), [0, 2]);
 * ```
 */
export function where(
  condition: Tensor,
  x: TensorLike,
  y: TensorLike,
): Tensor {
  if (condition.dtype !== "bool") {
    throw new DTypeError(
      `Cannot select by ${
        format(condition)
      }: it must be bool; compare it first`,
    );
  }
  return evaluate(() => {
    expectOneDType("where", [x, y]);
    const dtype = typeof x !== "number"
      ? x.dtype
      : typeof y !== "number"
      ? y.dtype
      : "f32";
    const both = [x, y].map((v) =>
      typeof v === "number" ? constant(v, dtype, []) : v
    );
    return apply("select", broadcast("where", [condition, ...both]), {});
  });
}
