/**
 * The training loop: one compiled step, whose loss is read while the next one runs.
 *
 * B is the batch size, T the length of a row.
 *
 * This module is browser compatible.
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
import { applyUpdates, type Optimizer } from "../../nn/optim/mod.ts";

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

/** How a tree is trained. */
export interface TrainOptions<P extends Tree> {
  /** The loss of trainable parameters on ids [B, T] and labels [B · T]. */
  loss(params: P, ids: Tensor, labels: Tensor): Tensor;
  /** What updates the parameters. */
  readonly optimizer: Optimizer;
  /** What is trained on. */
  readonly batches: Iterator<Batch>;
  /** B and T. */
  readonly shape: readonly [batch: number, seq: number];
  /** Number of steps. */
  readonly steps: number;
  /** Ends training after the current step. */
  readonly signal?: AbortSignal;
  /** Called for every step, in order. */
  onStep(done: StepDone): void;
  /** Called after every `saveEvery` steps but the last: what comes back is the caller's to save. */
  save?(params: P, step: number): Promise<void>;
  /** Steps between saves; none when absent. */
  readonly saveEvery?: number;
}

/**
 * Trains parameters, which are donated: only those that come back can be used afterwards. Throws `TrainingError` as soon
 * as a loss is not finite.
 */
export async function train<P extends Tree>(
  initial: P,
  options: TrainOptions<P>,
): Promise<{ readonly params: P; readonly steps: number }> {
  const { loss, optimizer, batches, shape, steps, signal } = options;
  const { saveEvery = Infinity } = options;
  using step = jit((params: P, state: Tree, ids: Tensor, labels: Tensor) => {
    const { value, grads } = valueAndGrad(loss)(params, ids, labels);
    const { updates, state: next } = optimizer.update(grads, state, params);
    return { params: applyUpdates(params, updates), state: next, value };
  }, { donate: [0, 1], name: "the training step" });

  let params = initial;
  let state = optimizer.init(params);
  let done = 0;
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
  try {
    while (done < steps && !signal?.aborted) {
      const { ids, labels, tokens } = batches.next().value as Batch;
      using x = tensor(ids, { shape });
      using y = tensor(labels);
      const out = step(params, state, x, y);
      ({ params, state } = out);
      done++;
      await readLoss();
      unread = { value: out.value, step: done, tokens };
      if (done % saveEvery === 0 && done < steps) {
        await readLoss();
        await options.save?.(params, done);
      }
      await breathe();
    }
    await readLoss();
    return { params, steps: done };
  } finally {
    for (const { leaf } of tree.leaves(state)) leaf.dispose();
  }
}

/** Lets timers and signals have their turn: on the CPU nothing else in a loop waits for them. */
export function breathe(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve));
}
