/**
 * Gives tensors their methods: each is the free function of its name.
 *
 * This module is browser compatible.
 *
 * @module
 */

import * as math from "./math/mod.ts";
import { Tensor } from "./tensor.ts";
import type { Methods } from "./tensor_methods.ts";

/** The free functions behind the methods; a method without one, or with another signature, does not compile. */
type Functions = {
  readonly [K in keyof Methods]: (
    x: Tensor,
    ...rest: Parameters<Methods[K]>
  ) => ReturnType<Methods[K]>;
};

const functions: Functions = {
  abs: math.abs,
  add: math.add,
  and: math.and,
  argmax: math.argmax,
  argmin: math.argmin,
  argsort: math.argsort,
  cast: math.cast,
  ceil: math.ceil,
  clip: math.clip,
  conv: math.conv,
  cos: math.cos,
  cumsum: math.cumsum,
  div: math.div,
  dot: math.dot,
  elu: math.elu,
  eq: math.eq,
  erf: math.erf,
  exp: math.exp,
  expand: math.expand,
  expm1: math.expm1,
  flip: math.flip,
  floor: math.floor,
  gather: math.gather,
  ge: math.ge,
  gelu: math.gelu,
  gt: math.gt,
  index: math.index,
  isNaN: math.isNaN,
  le: math.le,
  leakyRelu: math.leakyRelu,
  log: math.log,
  log1p: math.log1p,
  logSigmoid: math.logSigmoid,
  logSoftmax: math.logSoftmax,
  logSumExp: math.logSumExp,
  lt: math.lt,
  matmul: math.matmul,
  max: math.max,
  maximum: math.maximum,
  mean: math.mean,
  min: math.min,
  minimum: math.minimum,
  mod: math.mod,
  mul: math.mul,
  ne: math.ne,
  neg: math.neg,
  not: math.not,
  oneHot: math.oneHot,
  or: math.or,
  outer: math.outer,
  pad: math.pad,
  pow: math.pow,
  prod: math.prod,
  reciprocal: math.reciprocal,
  relu: math.relu,
  reshape: math.reshape,
  round: math.round,
  rsqrt: math.rsqrt,
  scatterAdd: math.scatterAdd,
  sigmoid: math.sigmoid,
  sign: math.sign,
  silu: math.silu,
  sin: math.sin,
  slice: math.slice,
  softmax: math.softmax,
  softplus: math.softplus,
  sort: math.sort,
  split: math.split,
  sqrt: math.sqrt,
  square: math.square,
  squeeze: math.squeeze,
  stopGradient: math.stopGradient,
  sub: math.sub,
  sum: math.sum,
  take: math.take,
  unpack: math.unpack,
  tan: math.tan,
  tanh: math.tanh,
  tile: math.tile,
  topK: math.topK,
  transpose: math.transpose,
  tril: math.tril,
  triu: math.triu,
  trunc: math.trunc,
  unsqueeze: math.unsqueeze,
  variance: math.variance,
};

/** Installs the methods on the class; called once, by core/mod.ts. */
export function installMethods(): void {
  for (const [name, f] of Object.entries(functions)) {
    Object.defineProperty(Tensor.prototype, name, {
      value(this: Tensor, ...rest: unknown[]): unknown {
        return (f as (...args: unknown[]) => unknown)(this, ...rest);
      },
      writable: true,
    });
  }
}
