/**
 * Every operation as a free function.
 *
 * This module is browser compatible.
 *
 * @module
 */

export * from "./activation.ts";
export {
  dotProductAttention,
  type DotProductAttentionOptions,
} from "./attention.ts";
export * from "./chunks.ts";
export { conv } from "./conv.ts";
export * from "./create.ts";
export { cumsum } from "./cumsum.ts";
export {
  abs,
  add,
  and,
  cast,
  ceil,
  clip,
  cos,
  div,
  eq,
  erf,
  exp,
  expm1,
  floor,
  ge,
  gt,
  isNaN,
  le,
  log,
  log1p,
  lt,
  maximum,
  minimum,
  mod,
  mul,
  ne,
  neg,
  not,
  or,
  pow,
  reciprocal,
  round,
  rsqrt,
  sign,
  sin,
  sqrt,
  square,
  stopGradient,
  sub,
  tan,
  tanh,
  trunc,
  where,
} from "./elementwise.ts";
export { einsum } from "./einsum.ts";
export * from "./index.ts";
export * from "./movement.ts";
export * from "./products.ts";
export * from "./reduce.ts";
export {
  type Factors,
  factorsOf,
  scoresLogSumExp,
  scoresTotal,
} from "./scores.ts";
export * from "./sort.ts";
export { unpack } from "./unpack.ts";
