/**
 * Activations, made of elementwise functions.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Tensor } from "../tensor.ts";
import { evaluate } from "../trace.ts";
import {
  add,
  div,
  erf,
  exp,
  expm1,
  gt,
  le,
  log1p,
  lt,
  mul,
  neg,
  square,
  tanh,
  where,
} from "./elementwise.ts";

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

/** log(1 + eˣ) = max(x, 0) + log1p(e^-|x|), without a kink at 0. */
export function softplus(x: Tensor): Tensor {
  return evaluate(() => {
    const below = lt(x, 0);
    const e = exp(where(below, x, neg(x)));
    return add(where(below, 0, x), log1p(e));
  });
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
    const above = gt(x, 0);
    const negative = mul(expm1(where(above, 0, x)), options.alpha ?? 1);
    return where(above, x, negative);
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
