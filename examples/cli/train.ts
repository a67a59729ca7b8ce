/**
 * The training loop: one compiled step, whose loss is read while the next one runs.
 *
 * B is the batch size, T the length of a row.
 *
 * @module
 */

import {
  jit,
  type Tensor,
  tensor,
  type Tree,
  tree,
  valueAndGrad,
} from "../../core/mod.ts";
import type { Batch } from "../../nn/data/mod.ts";
import { applyUpdates } from "../../nn/optim/mod.ts";
import type { Learner, Progress } from "./learner.ts";

/** Training went wrong: shown as one line, without a stack. */
export class TrainingError extends Error {
  /** Name of the error class. */
  override name = "TrainingError";
}

/** A step whose loss is known. */
export interface StepDone {
  /** Number of the step, from 1. */
  readonly step: number;
  /** Loss before the step's update. */
  readonly loss: number;
  /** Labels that counted. */
  readonly tokens: number;
}

/** Where a run stands: what it has come to in a number of steps. */
export type Standing = Progress & {
  /** Steps done. */
  readonly steps: number;
};

/** How a tree is trained. */
export interface TrainOptions {
  /** What is learned, and how. */
  readonly learner: Learner;
  /** The loss of whole parameters on ids [B, T] and labels [B · T]. */
  loss(params: Tree, ids: Tensor, labels: Tensor): Tensor;
  /** What is trained on, from the step to start with. */
  readonly batches: Iterator<Batch>;
  /** B and T. */
  readonly shape: readonly [batch: number, seq: number];
  /** Number of steps, those of an earlier run included. */
  readonly steps: number;
  /** Where an earlier run stopped; the learner's start when absent. It is donated. */
  readonly from?: Standing;
  /** Ends training after the current step. */
  readonly signal?: AbortSignal;
  /** Called for every step, in order. */
  onStep(done: StepDone): void;
  /** Called after every `saveEvery` steps but the last: what comes back is the caller's to save. */
  save?(standing: Standing): Promise<void>;
  /** Steps between saves; none when absent. */
  readonly saveEvery?: number;
}

/**
 * Trains; what is donated cannot be used afterwards, only what comes back. Throws `TrainingError` as soon as a loss is
 * not finite.
 */
export async function train(options: TrainOptions): Promise<Standing> {
  const { learner, loss, batches, shape, steps, signal } = options;
  const { saveEvery = Infinity } = options;
  using step = jit((
    { trainable, state }: Pick<Progress, "trainable" | "state">,
    frozen: Tree,
    ids: Tensor,
    labels: Tensor,
    at: Tensor,
  ) => {
    const { value, grads } = valueAndGrad((t: Tree) =>
      loss(learner.at(t, frozen, at), ids, labels)
    )(trainable);
    const next = learner.update(grads, state, trainable, at);
    return {
      trainable: applyUpdates(trainable, next.updates),
      state: next.state,
      value,
    };
  }, { donate: [0], name: "the training step" });

  let now = options.from ?? begin(learner);
  // Reading a loss waits for the device; read a step late, it finds the work done.
  let unread: { value: Tensor; step: number; tokens: number } | null = null;
  const readLoss = async (): Promise<void> => {
    if (!unread) return;
    const { value, step, tokens } = unread;
    unread = null;
    const loss = await value.item();
    value.dispose();
    if (!Number.isFinite(loss)) {
      throw new TrainingError(
        `the loss of step ${step} is ${loss}; a lower --lr or a longer --warmup may help`,
      );
    }
    options.onStep({ step, loss, tokens });
  };
  const stageSteps = learner.stages?.steps ?? Infinity;
  while (now.steps < steps && !signal?.aborted) {
    const { steps: done } = now;
    if (done > 0 && done % stageSteps === 0) {
      const { steps: _, ...end } = now;
      const { start, kept } = learner.stages!.next(end);
      disposeUnless({ start, kept }, end);
      now = { ...start, steps: done };
    }
    const { ids, labels, tokens } = batches.next().value as Batch;
    using x = tensor(ids, { shape });
    using y = tensor(labels);
    using at = tensor(done, { dtype: "i32" });
    const { frozen, trainable, state } = now;
    const { value, ...next } = step({ trainable, state }, frozen, x, y, at);
    now = { ...next, frozen, steps: done + 1 };
    await readLoss();
    unread = { value, step: done + 1, tokens };
    if (now.steps % saveEvery === 0 && now.steps < steps) {
      await readLoss();
      await options.save?.(now);
    }
    await breathe();
  }
  await readLoss();
  return now;
}

/** The start of a run. */
function begin({ trainable, frozen, init }: Learner): Standing {
  return { trainable, frozen, state: init(trainable), steps: 0 };
}

/** Frees the tensors of a tree that are not another's too. */
export function disposeUnless(shared: Tree, params: Tree): void {
  const kept = new Set(tree.leaves(shared).map(({ leaf }) => leaf));
  for (const { leaf } of tree.leaves(params)) {
    if (!kept.has(leaf)) leaf.dispose();
  }
}

/** Lets timers and signals have their turn: on the CPU nothing else in a loop waits for them. */
export function breathe(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve));
}
