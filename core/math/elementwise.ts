/**
 * Elementwise functions: arithmetic, comparison, and the activations made of them.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { currentTrace } from "../context.ts";
import { checkDType, type DType } from "../dtype.ts";
import { DTypeError } from "../errors.ts";
import type { ElementwiseName, None, Params } from "../node.ts";
import { format } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import type { TensorLike } from "../tensor_methods.ts";
import { apply, evaluate } from "../trace.ts";
import { broadcast, constant, expectOneDType } from "./broadcast.ts";

type Plain = {
  [K in ElementwiseName]: Params[K] extends None ? K : never;
}[ElementwiseName];

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

/** Numbers in the reverse order, each with one of its own: -x, or for integers -1 - x, which does not overflow. */
export function reverseOrder(x: Tensor): Tensor {
  return x.dtype === "i32" || x.dtype === "u32"
    ? sub(x.dtype === "i32" ? -1 : 2 ** 32 - 1, x)
    : neg(x);
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

/** eˣ; on wasm within 1.5 ulp. */
export function exp(x: Tensor): Tensor {
  return unary("exp", x);
}

/** eˣ - 1, exact near 0; on wasm within 2 ulp. */
export function expm1(x: Tensor): Tensor {
  return unary("expm1", x);
}

/** Natural logarithm; on wasm within 1 ulp. */
export function log(x: Tensor): Tensor {
  return unary("log", x);
}

/** log(1 + x), exact near 0; on wasm within 2 ulp. */
export function log1p(x: Tensor): Tensor {
  return unary("log1p", x);
}

/** Sine of radians; on wasm within 2.5 ulp. */
export function sin(x: Tensor): Tensor {
  return unary("sin", x);
}

/** Cosine of radians; on wasm within 2.5 ulp. */
export function cos(x: Tensor): Tensor {
  return unary("cos", x);
}

/** Hyperbolic tangent; on wasm within 3 ulp. */
export function tanh(x: Tensor): Tensor {
  return unary("tanh", x);
}

/** Error function; on wasm within 3 ulp. */
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

/**
 * x converted to a dtype, which costs nothing in a traced function where x has it already. f32 to an integer is
 * truncated toward zero and stops at the ends of the range, NaN is 0; integers of the other kind keep their bits; to bool
 * it is x ≠ 0.
 *
 * f16 and bf16 are exact as f32, and a use of them cast so is computed from their two bytes: nothing is stored in
 * between. Into them f32 is rounded to the nearest, ties to even, and to infinity beyond their range. No gradient flows
 * through a half: weights that are stored so are frozen.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { ones, tensor } from "cotan";
 *
 * const weight = tensor([[1, 2], [3, 1.00390625]]).cast("bf16");
 * assertEquals(String(weight), "bf16[2, 2]");
 * const y = ones([1, 2]).matmul(weight.cast("f32"));
 * assertEquals(await y.toArray(), [[4, 3]]);
 * ```
 */
export function cast(x: Tensor, dtype: DType): Tensor {
  checkDType(dtype);
  // Outside of a trace the result is a tensor of its own, which the caller may dispose of.
  if (x.dtype === dtype && currentTrace()) return x;
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

/** Limited to [min, max]; max where min is larger; the gradient is 1 at both ends and between them, as in PyTorch. */
export function clip(x: Tensor, min: number, max: number): Tensor {
  return evaluate(() => {
    const above = where(lt(x, min), min, x);
    return where(lt(max, above), max, above);
  });
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

/** xʸ; on wasm within 2 ulp. */
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

/**
 * What is left of x / y, with the sign of y, as numpy.mod; integers give 0 for y = 0. For f32 it is as exact as x
 * itself, so that nothing is left of quotients beyond 2^24.
 */
export function mod(x: TensorLike, y: TensorLike): Tensor {
  return evaluate(() => {
    expectOneDType("mod", [x, y]);
    const [a, b] = broadcast("mod", [x, y]) as [Tensor, Tensor];
    const isFloat = a.dtype === "f32";
    const quotient = isFloat ? floor(div(a, b)) : div(a, b);
    // Of an infinite y there is no multiple to take away.
    const rest = where(eq(quotient, 0), a, sub(a, mul(quotient, b)));
    const isWrong = and(ne(rest, 0), ne(lt(rest, 0), lt(b, 0)));
    const out = where(isWrong, add(rest, b), rest);
    return isFloat ? out : where(eq(b, 0), 0, out);
  });
}

/** Whether x ≠ y. */
export function ne(x: TensorLike, y: TensorLike): Tensor {
  return evaluate(() => not(binary("eq", x, y, "ne")));
}

/** Whether x > y. */
export function gt(x: TensorLike, y: TensorLike): Tensor {
  return below("gt", x, y, true);
}

/** Whether x ≤ y. */
export function le(x: TensorLike, y: TensorLike): Tensor {
  return evaluate(() => or(below("le", x, y, false), eq(x, y)));
}

/** Whether x ≥ y. */
export function ge(x: TensorLike, y: TensorLike): Tensor {
  return evaluate(() => or(below("ge", x, y, true), eq(x, y)));
}

/** Whether x < y, or y < x where swapped; errors name x first. */
function below(
  op: string,
  x: TensorLike,
  y: TensorLike,
  swapped: boolean,
): Tensor {
  return evaluate(() => {
    expectOneDType(op, [x, y]);
    const [a, b] = broadcast(op, [x, y]);
    return apply("lt", swapped ? [b!, a!] : [a!, b!], {});
  });
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
