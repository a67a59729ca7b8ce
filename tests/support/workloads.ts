/**
 * What a Transformer is trained with, as functions and arguments to compile: for tests and benches of plans.
 *
 * @module
 */

import { type Tensor, type tree, valueAndGrad, zeros } from "cotan";
import {
  adamw,
  applyUpdates,
  chain,
  clipByGlobalNorm,
  type Optimizer,
} from "cotan/nn";
import {
  applyBlock,
  type Block,
  blockParams,
  type Model,
  modelLoss,
  modelParams,
  type Sizes,
} from "./transformer.ts";

const B = 2;

const ids = ({ T }: Sizes): Tensor => zeros([B, T], { dtype: "i32" });

/** A block, forward and backward. */
export function blockStep(sizes: Sizes, isFused: boolean) {
  const x = zeros([B, sizes.T, sizes.C]);
  const loss = ({ p, x }: { p: Block; x: Tensor }, ct: Tensor) =>
    applyBlock(sizes, p, x).mul(ct).sum();
  return {
    f: (p: Block, x: Tensor, ct: Tensor) => valueAndGrad(loss)({ p, x }, ct),
    args: [blockParams(sizes, isFused), x, x] as const,
    donate: [],
  };
}

/** The loss of the model and its gradients. */
export function gradients(sizes: Sizes) {
  const loss = (p: Model, x: Tensor, y: Tensor) => modelLoss(sizes, p, x, y);
  return {
    f: (p: Model, x: Tensor, y: Tensor) => valueAndGrad(loss)(p, x, y),
    args: [modelParams(sizes), ids(sizes), ids(sizes)] as const,
    donate: [],
  };
}

/** AdamW. */
export const plainAdamw = adamw({ learningRate: 1e-3 });

/** AdamW on gradients that are clipped together. */
export const clippedAdamw = chain(clipByGlobalNorm(1), plainAdamw);

/** A step of training, with parameters and state donated. */
export function trainingStep<S extends tree.Tree>(
  sizes: Sizes,
  optimizer: Optimizer<S>,
  isFused = true,
) {
  const params = modelParams(sizes, isFused);
  const loss = (p: Model, x: Tensor, y: Tensor) => modelLoss(sizes, p, x, y);
  return {
    f: (p: Model, s: S, x: Tensor, y: Tensor) => {
      const { value, grads } = valueAndGrad(loss)(p, x, y);
      const { updates, state } = optimizer.update(grads, s, p);
      return { params: applyUpdates(p, updates), state, value };
    },
    args: [params, optimizer.init(params), ids(sizes), ids(sizes)] as const,
    donate: [0, 1],
  };
}
