/**
 * The scalar functions of kernels as plain JavaScript.
 *
 * @module
 */

import type { DType } from "cotan";
import { isHalf, rounded } from "../../core/half.ts";
import { erf } from "../../core/scalars.ts";
import type { ScalarOp } from "../../core/plan/kernel.ts";
import { threefry2x32 } from "../../core/threefry.ts";

/** A result of arithmetic as its dtype holds it: integers wrap around. */
export function wrap(value: number, dtype: DType): number {
  return dtype === "i32" ? value | 0 : dtype === "u32" ? value >>> 0 : value;
}

/** A number converted to another dtype: f32 is cut off at the ends of an integer's range. */
export function convert(value: number, dtype: DType, from: DType): number {
  if (dtype === "f32") return value;
  if (dtype === "bool") return value === 0 ? 0 : 1;
  if (isHalf(dtype)) return rounded(value, dtype);
  if (from !== "f32" && !isHalf(from)) return wrap(value, dtype);
  const [low, high] = dtype === "i32"
    ? [-(2 ** 31), 2 ** 31 - 1]
    : [0, 2 ** 32 - 1];
  return Math.min(Math.max(Math.trunc(value) || 0, low), high);
}

type Scalar = (
  a: number,
  b: number,
  c: number,
  d: number,
  dtype: DType,
) => number;

/** The scalar functions of kernels, in float64 and with integers that wrap around. */
export const scalars: { readonly [K in ScalarOp]: Scalar } = {
  neg: (a) => -a,
  abs: (a) => a < 0 ? -a : a,
  sign: (a) => Math.sign(a),
  floor: (a) => Math.floor(a),
  sqrt: (a) => Math.sqrt(a),
  exp: (a) => Math.exp(a),
  expm1: (a) => Math.expm1(a),
  log: (a) => Math.log(a),
  log1p: (a) => Math.log1p(a),
  sin: (a) => Math.sin(a),
  cos: (a) => Math.cos(a),
  tanh: (a) => Math.tanh(a),
  erf: (a) => erf(a),
  not: (a) => 1 - a,
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b, _, __, dtype) => dtype === "f32" ? a * b : Math.imul(a, b),
  div: (a, b, _, __, dtype) =>
    dtype === "f32" ? a / b : b === 0 ? 0 : Math.trunc(a / b),
  pow: (a, b) => a ** b,
  maximum: (a, b) => Math.max(a, b),
  minimum: (a, b) => Math.min(a, b),
  eq: (a, b) => a === b ? 1 : 0,
  lt: (a, b) => a < b ? 1 : 0,
  and: (a, b) => a * b,
  or: (a, b) => Math.max(a, b),
  select: (a, b, c) => a !== 0 ? b : c,
  threefry: (a, b, i, stream) => {
    const words = threefry2x32([a, b], [i >>> 1, stream]);
    return words[i % 2]!;
  },
};

/** What the byte of words at a position stands for, or the four bits where there are levels. */
export function unpacked(
  levels: readonly number[] | null,
  at: number,
  word: (index: number) => number,
): number {
  const times = levels ? 8 : 4, base = levels ? 16 : 256;
  const below = Math.floor(word(Math.floor(at / times)) / base ** (at % times));
  return levels ? levels[below % base]! : below % base;
}
