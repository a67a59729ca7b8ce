/**
 * The scalar functions in float64: those of the reference backend, and of constants that are folded.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { DType } from "./dtype.ts";
import { isHalf, rounded } from "./half.ts";
import type { ElementwiseParams } from "./node.ts";

/** A scalar function; integers say so, since they divide and multiply in their own way; so does what is converted. */
export type Scalar = (
  a: number,
  b: number,
  c: number,
  dtype: DType,
  from: DType | undefined,
) => number;

/** The scalar function of each elementwise primitive. */
export const scalars: { readonly [K in keyof ElementwiseParams]: Scalar } = {
  neg: (a) => -a,
  abs: Math.abs,
  sign: Math.sign,
  floor: Math.floor,
  sqrt: Math.sqrt,
  exp: Math.exp,
  expm1: Math.expm1,
  log: Math.log,
  log1p: Math.log1p,
  sin: Math.sin,
  cos: Math.cos,
  tanh: Math.tanh,
  erf,
  not: (a) => a ? 0 : 1,
  cast: (a, _, __, dtype, from) => castTo(a, dtype, from),
  alias: (a) => a,
  stopGradient: (a) => a,
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b, _, dtype) => dtype === "f32" ? a * b : Math.imul(a, b),
  div: (a, b, _, dtype) =>
    dtype === "f32" ? a / b : b === 0 ? 0 : Math.trunc(a / b),
  // JavaScript has NaN where IEEE 754 has 1.
  pow: (a, b) => a === 1 || a === -1 && Math.abs(b) === Infinity ? 1 : a ** b,
  maximum: (a, b) => Math.max(a, b),
  minimum: (a, b) => Math.min(a, b),
  eq: (a, b) => a === b ? 1 : 0,
  lt: (a, b) => a < b ? 1 : 0,
  and: (a, b) => a & b,
  or: (a, b) => a | b,
  select: (a, b, c) => a ? b : c,
};

function castTo(a: number, dtype: DType, from: DType | undefined): number {
  if (dtype === "bool") return a !== 0 ? 1 : 0;
  if (isHalf(dtype)) return rounded(a, dtype);
  // Integers keep their bits: the array that the number goes into wraps it around.
  if (from !== "f32" && !isHalf(from)) return a;
  switch (dtype) {
    case "f32":
      return a;
    case "i32":
      return Math.max(-(2 ** 31), Math.min(2 ** 31 - 1, Math.trunc(a) || 0));
    case "u32":
      return Math.max(0, Math.min(2 ** 32 - 1, Math.trunc(a) || 0));
  }
}

/** erf(x) = 2/√π · e^-x² · Σ 2ⁿ x²ⁿ⁺¹ / (2n+1)!! (Abramowitz and Stegun 7.1.6): no term cancels another. */
export function erf(x: number): number {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x, sum = x;
  for (let n = 1; Math.abs(term) > Math.abs(sum) * 1e-17; n++) {
    term *= 2 * x * x / (2 * n + 1);
    sum += term;
  }
  return 2 / Math.sqrt(Math.PI) * Math.exp(-x * x) * sum;
}
