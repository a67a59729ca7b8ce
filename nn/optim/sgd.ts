/**
 * Stochastic gradient descent, with momentum where wanted.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { type Tensor, type Tree, tree, where, zeros } from "../../core/mod.ts";
import { checked, checkRate } from "./checks.ts";
import { type DecayOptions, withDecay } from "./decay.ts";
import {
  type Optimizer,
  type Schedule,
  type Update,
  zerosLike,
} from "./optimizer.ts";
import { scheduleOf } from "./schedules.ts";

/** Options of `sgd`. */
export interface SgdOptions extends DecayOptions {
  /** A number, or a schedule. */
  readonly learningRate: number | Schedule;
  /** How much of the velocity is kept; 0, which needs no velocity. */
  readonly momentum?: number;
  /** Share of the gradient that is held back from the velocity; 0. */
  readonly dampening?: number;
  /** Whether to look ahead along the velocity; false. */
  readonly nesterov?: boolean;
}

/** State of `sgd`. */
export type SgdState = {
  /** Updates done, i32. */
  readonly count: Tensor;
  /** A tree like the parameters; null without momentum. */
  readonly velocity: Tree;
};

/**
 * Stochastic gradient descent with momentum (Sutskever et al. 2013) as torch.optim.SGD has it:
 *
 * g ← g + weightDecay · p; u ← momentum · u + (1 - dampening) g, with u = g at the first step;
 * p ← p - rate · u, or p - rate · (g + momentum · u) with Nesterov's.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { applyUpdates, sgd } from "cotan/nn";
 *
 * const optimizer = sgd({ learningRate: 0.5 });
 * const params = { w: tensor([1]) }, grads = { w: tensor([4]) };
 * const { updates } = optimizer.update(grads, optimizer.init(params), params);
 * assertEquals(await applyUpdates(params, updates).w.toArray(), [-1]);
 * ```
 */
export function sgd(options: SgdOptions): Optimizer<SgdState> {
  const {
    learningRate,
    momentum = 0,
    dampening = 0,
    nesterov = false,
    weightDecay = 0,
    mask,
  } = options;
  checkRate("weightDecay", weightDecay);
  checkRate("momentum", momentum);
  if (nesterov && (momentum === 0 || dampening !== 0)) {
    throw new RangeError(
      `Cannot look ahead with momentum ${momentum} and dampening ${dampening}: nesterov needs momentum above 0 and dampening 0`,
    );
  }
  const rate = scheduleOf(learningRate);

  function init(params: Tree): SgdState {
    return {
      count: zeros([], { dtype: "i32" }),
      velocity: momentum === 0 ? null : zerosLike(params),
    };
  }

  function update<P extends Tree>(
    grads: P,
    { count, velocity }: SgdState,
    params: P,
  ): Update<P, SgdState> {
    const g = withDecay(grads, params, options);
    let direction = g, next: Tree = null;
    if (momentum !== 0) {
      const first = count.eq(0);
      const moved = tree.map(
        (g, u) => where(first, g, u!.mul(momentum).add(g.mul(1 - dampening))),
        g,
        velocity,
      );
      next = moved;
      direction = nesterov
        ? tree.map((g, u) => g.add(u!.mul(momentum)), g, moved)
        : moved;
    }
    const lr = rate(count).neg();
    return {
      updates: tree.map((d) => d.mul(lr), direction),
      state: { count: count.add(1), velocity: next },
    };
  }
  return checked({ init, update }, mask);
}
