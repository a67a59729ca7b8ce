/**
 * Lion: steps by the sign of the momentum.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { type Tensor, type Tree, tree, zeros } from "../../core/mod.ts";
import { checked, checkRate, checkShare } from "./checks.ts";
import { type DecayOptions, withDecay } from "./decay.ts";
import { average } from "./moments.ts";
import {
  type Optimizer,
  type Schedule,
  type Update,
  zerosLike,
} from "./optimizer.ts";
import { scheduleOf } from "./schedules.ts";

/** Options of `lion`. */
export interface LionOptions extends DecayOptions {
  /** A number, or a schedule; a third to a tenth of what AdamW takes. */
  readonly learningRate: number | Schedule;
  /** How much of the momentum goes into a step; 0.9. */
  readonly b1?: number;
  /** How much of the momentum is kept; 0.99. */
  readonly b2?: number;
}

/** State of `lion`. */
export type LionState = {
  /** Updates done, i32. */
  readonly count: Tensor;
  /** Momentum, a tree like the parameters. */
  readonly mu: Tree;
};

/**
 * Lion (Chen et al., arXiv 2302.06675, algorithm 2):
 *
 * p ← p - rate · (sign(b1 m + (1 - b1) g) + weightDecay · p), and then m ← b2 m + (1 - b2) g.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { applyUpdates, lion } from "cotan/nn";
 *
 * const optimizer = lion({ learningRate: 0.5 });
 * const params = { w: tensor([1, 1, 1]) }, grads = { w: tensor([4, -0.1, 0]) };
 * const { updates } = optimizer.update(grads, optimizer.init(params), params);
 * assertEquals(await applyUpdates(params, updates).w.toArray(), [0.5, 1.5, 1]);
 * ```
 */
export function lion(options: LionOptions): Optimizer<LionState> {
  const { learningRate, b1 = 0.9, b2 = 0.99, weightDecay = 0, mask } = options;
  checkShare("b1", b1);
  checkShare("b2", b2);
  checkRate("weightDecay", weightDecay);
  const rate = scheduleOf(learningRate);
  return checked({
    init: (params) => ({
      count: zeros([], { dtype: "i32" }),
      mu: zerosLike(params),
    }),
    update<P extends Tree>(
      grads: P,
      { count, mu }: LionState,
      params: P,
    ): Update<P, LionState> {
      const lr = rate(count).neg();
      const signs = tree.map((g, m) => average(m!, b1, g).sign(), grads, mu);
      const steps = withDecay(signs, params, options);
      return {
        updates: tree.map((s) => s.mul(lr), steps),
        state: {
          count: count.add(1),
          mu: tree.map((g, m) => average(m!, b2, g), grads, mu),
        },
      };
    },
  }, mask);
}
