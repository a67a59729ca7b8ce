/**
 * Adam with decoupled weight decay.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  compileSelector,
  scope,
  type Selector,
  type Tensor,
  type Tree,
  tree,
  zeros,
} from "../../core/mod.ts";
import {
  type Optimizer,
  type Schedule,
  type Update,
  zerosLike,
} from "./optimizer.ts";
import { checkRate, constant } from "./schedules.ts";

/** Options of `adamw`. */
export interface AdamWOptions {
  /** A number, or a schedule. */
  readonly learningRate: number | Schedule;
  /** How much of the first moment is kept; 0.9. */
  readonly b1?: number;
  /** How much of the second moment is kept; 0.999. */
  readonly b2?: number;
  /** Added to the root of the second moment; 1e-8. */
  readonly eps?: number;
  /** Share of a parameter that is taken away at each step, times the rate; 0.01. */
  readonly weightDecay?: number;
  /** Parameters that decay; all when absent. */
  readonly mask?: Selector;
}

/** State of `adamw`: trees like the parameters. */
export type AdamWState = {
  /** Updates done, i32. */
  readonly count: Tensor;
  /** First moments. */
  readonly mu: Tree;
  /** Second moments. */
  readonly nu: Tree;
};

/**
 * AdamW (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2; Adam is Kingma and Ba, arXiv 1412.6980):
 *
 * m ← b1 m + (1 - b1) g, v ← b2 v + (1 - b2) g², and with t counted from 1
 * p ← p - rate · (weightDecay · p + m / (1 - b1ᵗ) / (√(v / (1 - b2ᵗ)) + eps)).
 *
 * The decay is multiplied by the rate, as in torch.optim.AdamW; the paper has a rate of its own for it.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { adamw, applyUpdates } from "cotan/nn";
 *
 * const optimizer = adamw({ learningRate: 0.1, weightDecay: 0 });
 * const params = { w: tensor([1]) }, grads = { w: tensor([5]) };
 * const { updates } = optimizer.update(grads, optimizer.init(params), params);
 * assertAlmostEquals(await applyUpdates(params, updates).w.item(), 0.9, 1e-6);
 * ```
 */
export function adamw(options: AdamWOptions): Optimizer<AdamWState> {
  const {
    learningRate,
    b1 = 0.9,
    b2 = 0.999,
    eps = 1e-8,
    weightDecay = 0.01,
    mask = () => true,
  } = options;
  checkShare("b1", b1);
  checkShare("b2", b2);
  checkRate("weightDecay", weightDecay);
  const rate = typeof learningRate === "number"
    ? constant(learningRate)
    : learningRate;

  function init(params: Tree): AdamWState {
    const mu = zerosLike(params), nu = zerosLike(params);
    return { count: zeros([], { dtype: "i32" }), mu, nu };
  }

  function update<P extends Tree>(
    grads: P,
    state: AdamWState,
    params: P,
  ): Update<P, AdamWState> {
    return scope(() => {
      const t = state.count.cast("f32").add(1);
      const lr = rate(state.count);
      const mu = tree.map((g, m) => decay(m!, b1, g), grads, state.mu);
      const nu = tree.map((g, v) => decay(v!, b2, g.square()), grads, state.nu);
      // m / c1 / (√(v / c2) + eps) with both corrections as one factor each.
      const c1 = correction(t, b1), c2 = correction(t, b2).sqrt();
      const steps = tree.map(
        (m, v) => m.div(c1).div(v!.sqrt().div(c2).add(eps)),
        mu,
        nu,
      );
      const moved = withDecay(steps, params, weightDecay, mask);
      return {
        updates: tree.map((u) => u.mul(lr.neg()), moved),
        state: { count: state.count.add(1), mu, nu },
      };
    });
  }
  return { init, update };
}

/** b m + (1 - b) x. */
function decay(m: Tensor, b: number, x: Tensor): Tensor {
  return m.mul(b).add(x.mul(1 - b));
}

/** 1 - bᵗ as -expm1(t log b), which loses nothing in float32 for b near 1 and small t. */
function correction(t: Tensor, b: number): Tensor {
  return b === 0 ? t.mul(0).add(1) : t.mul(Math.log(b)).expm1().neg();
}

/** Steps with weight decay added on the leaves that the mask takes. */
function withDecay<P extends Tree>(
  steps: P,
  params: P,
  weightDecay: number,
  mask: Selector,
): P {
  if (weightDecay === 0) return steps;
  const leaves = tree.leaves(params);
  const decays = compileSelector(mask, leaves.map(({ path }) => path));
  const values = new Map(leaves.map(({ path, leaf }) => [path, leaf]));
  const list = tree.leaves(steps).map(({ path, leaf }) => {
    const p = values.get(path)!;
    return decays(path, p) ? leaf.add(p.mul(weightDecay)) : leaf;
  });
  return tree.fromLeaves(steps, list);
}

/** Checks a share of a moment that is kept. */
function checkShare(name: string, b: number): void {
  if (b >= 0 && b < 1) return;
  throw new RangeError(
    `Cannot average with ${name} ${b}: it must be at least 0 and below 1`,
  );
}
