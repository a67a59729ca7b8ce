/**
 * What a training loop learns: which leaves, from which tree the loss is computed, and how they are updated.
 *
 * @module
 */

import { type Tensor, type Tree, tree } from "../../core/mod.ts";
import type { Optimizer, Update } from "../../nn/optim/mod.ts";

/** A run in progress: halves of a tree of parameters, and the optimizer's state. */
export type Progress = {
  /** What is trained. */
  readonly trainable: Tree;
  /** What is not. */
  readonly frozen: Tree;
  /** The optimizer's state. */
  readonly state: Tree;
};

/** What is learned, and how. Steps are numbered from 0, as i32 scalars that are traced. */
export interface Learner {
  /** What is trained, at first; it is donated. */
  readonly trainable: Tree;
  /** What is not, at first. */
  readonly frozen: Tree;
  /** The optimizer's state before the first step. */
  init(trainable: Tree): Tree;
  /** The parameters that a step's loss is computed with. */
  at(trainable: Tree, frozen: Tree, step: Tensor): Tree;
  /** The updates of a step. */
  update(
    grads: Tree,
    state: Tree,
    trainable: Tree,
    step: Tensor,
  ): Update<Tree, Tree>;
  /** The parameters that are evaluated and saved. */
  whole(trainable: Tree, frozen: Tree): Tree;
  /** Stages of training, where there are any. */
  readonly stages?: {
    /** Steps of a stage. */
    readonly steps: number;
    /** The start of the next stage, from the end of one, and tensors of it that are needed beside. */
    next(end: Progress): { readonly start: Progress; readonly kept: Tree };
  };
}

/** Learns one half of a tree by an optimizer. */
export function plainLearner(
  [trainable, frozen]: readonly [Tree, Tree],
  optimizer: Optimizer,
): Learner {
  const merged = (t: Tree, f: Tree) => tree.merge(t, f);
  return {
    trainable,
    frozen,
    init: optimizer.init,
    update: optimizer.update,
    at: merged,
    whole: merged,
  };
}
