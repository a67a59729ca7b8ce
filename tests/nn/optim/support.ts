/**
 * What the tests of optimizers share: every optimizer, and steps.
 *
 * @module
 */

import {
  jit,
  memory,
  scope,
  type Tensor,
  tensor,
  tree,
  valueAndGrad,
} from "cotan";
import {
  accumulate,
  adafactor,
  adam,
  adamw,
  applyUpdates,
  chain,
  clipByGlobalNorm,
  clipByValue,
  lion,
  muon,
  type Optimizer,
  partitioned,
  type Schedule,
  sgd,
} from "cotan/nn";
import { assertClose } from "../../support/allclose.ts";

/** Parameters of all ranks that optimizers treat differently, by names that selectors tell apart. */
export type Params = { up: { weight: Tensor; bias: Tensor }; gain: Tensor };

/** Every optimizer by name, at a rate; those of matrices with another one for the rest. */
export function optimizersAt(
  learningRate: number | Schedule,
): Record<string, Optimizer> {
  const decay = { learningRate, weightDecay: 0.01, mask: "weight" };
  return {
    "sgd": sgd({ learningRate }),
    "sgd with momentum": sgd({ ...decay, momentum: 0.5, nesterov: true }),
    "adam": adam(decay),
    "adam with amsgrad": adam({ ...decay, amsgrad: true }),
    "adamw": adamw(decay),
    "lion": lion(decay),
    "adafactor": adafactor({ ...decay, b1: 0.5 }),
    "muon": partitioned(
      [["weight", muon(decay)]],
      adamw({ learningRate, weightDecay: 0 }),
    ),
    "chain": chain(clipByValue(10), clipByGlobalNorm(10), adamw(decay)),
    "accumulate": accumulate(adamw(decay), 2),
  };
}

/** A step: gradients of a loss, updates, parameters; the trees of before are freed. */
export function step<P extends tree.Tree, S extends tree.Tree>(
  optimizer: Optimizer<S>,
  grads: P,
  state: S,
  params: P,
): { params: P; state: S } {
  return scope(() => {
    const out = optimizer.update(grads, state, params);
    return { params: applyUpdates(params, out.updates), state: out.state };
  });
}

/**
 * Runs jitted steps with donated state; the memory in use after the second and after the last, and the losses. What it
 * makes it frees, so that no collection of garbage changes the memory of a later run.
 */
export async function train<P extends tree.Tree, S extends tree.Tree>(
  optimizer: Optimizer<S>,
  loss: (params: P) => Tensor,
  start: () => P,
  steps: number,
): Promise<{ losses: number[]; memories: unknown[] }> {
  using compiled = jit((p: P, s: S) => {
    const { value, grads } = valueAndGrad(loss)(p);
    return { ...step(optimizer, grads, s, p), value };
  }, { donate: [0, 1] });
  let params = start(), state = optimizer.init(params);
  const losses: number[] = [], memories: unknown[] = [];
  for (let k = 1; k <= steps; k++) {
    const out = compiled(params, state);
    ({ params, state } = out);
    losses.push(await out.value.item());
    out.value.dispose();
    if (k === 2 || k === steps) memories.push(memory());
  }
  for (const { leaf } of tree.leaves([params, state])) leaf.dispose();
  return { losses, memories };
}

/** Paths of the leaves of a tree. */
export function pathsOf(t: tree.Tree): string[] {
  return tree.leaves(t).map(({ path }) => path);
}

/** Asserts the rates that a compiled schedule gives for counts from 0, as i32 and as f32. */
export async function assertRates(
  schedule: Schedule,
  expected: readonly number[],
  within = 1e-12,
): Promise<void> {
  using rate = jit((count: Tensor) => schedule(count));
  for (const [k, value] of expected.entries()) {
    const counts = [tensor(k, { dtype: "i32" }), tensor(k)];
    for (const count of counts) {
      const bound = { rtol: 0, atol: within, what: `rate ${k}` };
      await assertClose(rate(count), [value], bound);
    }
  }
}
