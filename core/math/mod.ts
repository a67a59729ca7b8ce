/**
 * Every operation as a free function.
 *
 * This module is browser compatible.
 *
 * @module
 */

export * from "./create.ts";
export {
  abs,
  add,
  and,
  cast,
  ceil,
  clip,
  cos,
  div,
  elu,
  eq,
  erf,
  exp,
  expm1,
  floor,
  ge,
  gelu,
  gt,
  isNaN,
  le,
  leakyRelu,
  log,
  log1p,
  logSigmoid,
  lt,
  maximum,
  minimum,
  mul,
  ne,
  neg,
  not,
  or,
  pow,
  reciprocal,
  relu,
  round,
  rsqrt,
  sigmoid,
  sign,
  silu,
  sin,
  softplus,
  sqrt,
  square,
  stopGradient,
  sub,
  tan,
  tanh,
  trunc,
  where,
} from "./elementwise.ts";
export * from "./index.ts";
export * from "./movement.ts";
export * from "./products.ts";
export * from "./reduce.ts";
