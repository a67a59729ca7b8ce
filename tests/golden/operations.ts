/**
 * How the operations of the golden files are called here.
 *
 * @module
 */

import * as cotan from "cotan";
import type { Range, Tensor } from "cotan";
import {
  attention,
  crossEntropy,
  embedding,
  layerNorm,
  rmsNorm,
  rope,
} from "cotan/nn";

/** Attributes of a case; which there are depends on the operation. */
export interface Attributes {
  readonly axis: number;
  readonly axes: readonly number[];
  readonly keepdims: boolean;
  readonly correction: number;
  readonly shape: readonly number[];
  readonly perm: readonly number[];
  readonly ranges: readonly Range[];
  readonly pads: readonly (readonly [number, number])[];
  readonly value: number;
  readonly reps: readonly number[];
  readonly k: number;
  readonly min: number | null;
  readonly max: number | null;
  readonly exponent: number;
  readonly num_classes: number;
  readonly eps: number;
  readonly theta: number;
  readonly causal: boolean;
  readonly ignore_index: number;
  readonly label_smoothing: number;
  readonly reduction: "mean" | "sum" | "none";
  readonly equation: string;
  readonly descending: boolean;
  readonly stride: number;
  readonly padding: number;
  readonly dilation?: number;
  readonly groups?: number;
  readonly signed_zero?: boolean;
}

/** An operation on the inputs of a case. */
export type Operation = (attributes: Attributes, ...inputs: Tensor[]) => Tensor;

const reduced = ({ axes, keepdims }: Attributes) => ({
  axis: axes,
  keepDims: keepdims,
});

const convolution: Operation = (a, x, weight, bias) => {
  const { stride, padding, dilation = 1, groups = 1 } = a;
  const out = x!.conv(weight!, { stride, padding, dilation, groups });
  return out.add(bias!.reshape([-1, ...x!.shape.slice(2).map(() => 1)]));
};

/** The operations by the names of their files. */
export const operations: Readonly<Record<string, Operation>> = {
  abs: (_, x) => x!.abs(),
  add: (_, x, y) => x!.add(y!),
  argmax: ({ axis }, x) => x!.argmax({ axis }),
  argmin: ({ axis }, x) => x!.argmin({ axis }),
  argsort: ({ axis, descending }, x) => x!.argsort({ axis, descending }),
  attention: ({ causal }, q, k, v, mask) => {
    const [B, , , S] = (mask ?? k!).shape;
    // Files count the first query from the end of the keys: query i sees keys up to i + S - T.
    const position = k!.shape[2]! - q!.shape[2]!;
    const seen = mask ? mask.reshape([B!, S!]) : null;
    return attention(q!, k!, v!, { causal, mask: seen, position });
  },
  broadcast_to: ({ shape }, x) => x!.expand(shape),
  ceil: (_, x) => x!.ceil(),
  clamp: ({ min, max }, x) => x!.clip(min ?? -Infinity, max ?? Infinity),
  concat: ({ axis }, ...xs) => cotan.concat(xs, { axis }),
  conv1d: convolution,
  conv2d: convolution,
  cos: (_, x) => x!.cos(),
  cross_entropy: (a, logits, targets) =>
    crossEntropy(logits!, targets!, {
      ignoreIndex: a.ignore_index,
      labelSmoothing: a.label_smoothing,
      reduction: a.reduction,
    }),
  cumsum: ({ axis }, x) => x!.cumsum({ axis }),
  div: (_, x, y) => x!.div(y!),
  einsum: ({ equation }, ...xs) => cotan.einsum(equation, ...xs),
  elu: (_, x) => x!.elu(),
  embedding: (_, weight, ids) => embedding({ weight: weight! }, ids!),
  eq: (_, x, y) => x!.eq(y!),
  erf: (_, x) => x!.erf(),
  exp: (_, x) => x!.exp(),
  expm1: (_, x) => x!.expm1(),
  flip: ({ axes }, x) => x!.flip(axes),
  floor: (_, x) => x!.floor(),
  ge: (_, x, y) => x!.ge(y!),
  gelu: (_, x) => x!.gelu(),
  gelu_tanh: (_, x) => x!.gelu({ approximate: "tanh" }),
  gt: (_, x, y) => x!.gt(y!),
  layer_norm: ({ eps }, x, weight, bias) =>
    layerNorm({ weight: weight!, bias: bias! }, x!, { eps }),
  le: (_, x, y) => x!.le(y!),
  leaky_relu: (_, x) => x!.leakyRelu(),
  log: (_, x) => x!.log(),
  log1p: (_, x) => x!.log1p(),
  log_sigmoid: (_, x) => x!.logSigmoid(),
  log_softmax: ({ axis }, x) => x!.logSoftmax({ axis }),
  logsumexp: (a, x) => x!.logSumExp(reduced(a)),
  lt: (_, x, y) => x!.lt(y!),
  matmul: (_, x, y) => x!.matmul(y!),
  max: (a, x) => x!.max(reduced(a)),
  maximum: (_, x, y) => x!.maximum(y!),
  mean: (a, x) => x!.mean(reduced(a)),
  min: (a, x) => x!.min(reduced(a)),
  minimum: (_, x, y) => x!.minimum(y!),
  mse_loss: (_, x, target) => x!.sub(target!).square().mean(),
  mul: (_, x, y) => x!.mul(y!),
  ne: (_, x, y) => x!.ne(y!),
  neg: (_, x) => x!.neg(),
  one_hot: ({ num_classes }, ids) => cotan.oneHot(ids!, num_classes),
  pad: ({ pads, value }, x) => x!.pad(pads, { value }),
  pow: (_, x, y) => x!.pow(y!),
  pow_scalar: ({ exponent }, x) => x!.pow(exponent),
  prod: (a, x) => x!.prod(reduced(a)),
  reciprocal: (_, x) => x!.reciprocal(),
  relu: (_, x) => x!.relu(),
  reshape: ({ shape }, x) => x!.reshape(shape),
  rms_norm: ({ eps }, x, weight) => rmsNorm({ weight: weight! }, x!, { eps }),
  rope_half_split: ({ theta }, x) => rope(x!, { base: theta }),
  round: (_, x) => x!.round(),
  rsqrt: (_, x) => x!.rsqrt(),
  scatter_add: ({ axis }, x, source, index) =>
    x!.scatterAdd(index!, source!, { axis }),
  sigmoid: (_, x) => x!.sigmoid(),
  sign: (_, x) => x!.sign(),
  silu: (_, x) => x!.silu(),
  sin: (_, x) => x!.sin(),
  slice: ({ ranges }, x) => x!.slice(ranges),
  softmax: ({ axis }, x) => x!.softmax({ axis }),
  softplus: (_, x) => x!.softplus(),
  sort: ({ axis, descending }, x) => x!.sort({ axis, descending }),
  sqrt: (_, x) => x!.sqrt(),
  square: (_, x) => x!.square(),
  stack: ({ axis }, ...xs) => cotan.stack(xs, { axis }),
  sub: (_, x, y) => x!.sub(y!),
  sum: (a, x) => x!.sum(reduced(a)),
  take: ({ axis }, x, index) => x!.take(index!, { axis }),
  take_along_axis: ({ axis }, x, index) => x!.gather(index!, { axis }),
  tan: (_, x) => x!.tan(),
  tanh: (_, x) => x!.tanh(),
  tile: ({ reps }, x) => x!.tile(reps),
  topk_indices: ({ k, axis }, x) => x!.topK(k, { axis }).indices,
  topk_values: ({ k, axis }, x) => x!.topK(k, { axis }).values,
  transpose: ({ perm }, x) => x!.transpose(perm),
  tril: ({ k }, x) => x!.tril({ k }),
  triu: ({ k }, x) => x!.triu({ k }),
  trunc: (_, x) => x!.trunc(),
  var: (a, x) => x!.variance({ ...reduced(a), correction: a.correction }),
  where: (_, condition, x, y) => cotan.where(condition!, x!, y!),
};
