/**
 * Optimizers for training in stages: adapters start anew in each, everything else goes on.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  scope,
  type Tensor,
  tensor,
  type Tree,
  tree,
  zeros,
} from "../core/mod.ts";
import type { Optimizer, Schedule, Update } from "../nn/optim/mod.ts";
import { isAdapter } from "./is_adapter.ts";

/** How `stagewise` updates. */
export interface StagewiseOptions {
  /** A number, or a schedule over the steps of all stages. */
  readonly learningRate: number | Schedule;
  /** Steps over which the rate of the adapters rises from 0 again in each stage; 0. */
  readonly rewarm?: number;
}

/** State of `stagewise`. */
export type StagewiseState<S extends Tree = Tree> = {
  /** Steps done in all stages, i32. */
  readonly count: Tensor;
  /** Steps done in this stage, i32. */
  readonly stage: Tensor;
  /** State of the adapters. */
  readonly adapters: S;
  /** State of everything else that is trained. */
  readonly rest: S;
};

/** An optimizer that can start a stage. */
export interface StagewiseOptimizer<S extends Tree = Tree>
  extends Optimizer<StagewiseState<S>> {
  /** The state at the start of the next stage: moments and step count of the adapters at zero, the rest as it is. */
  restart(state: StagewiseState<S>, params: Tree): StagewiseState<S>;
}

/**
 * An optimizer for a cascade: `make` builds one for a rate. The schedule runs over all stages; `restart` forgets the
 * moments of the adapters, which belong to adapters that are no more (ReLoRA, arXiv 2307.05695, section 3).
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { ones } from "cotan";
 * import { stagewise } from "cotan/lora";
 * import { adamw } from "cotan/nn";
 *
 * const optimizer = stagewise((learningRate) => adamw({ learningRate }), { learningRate: 1e-3 });
 * const params = { lora: { a: ones([1, 2]), b: ones([2, 1]) } };
 * const { state } = optimizer.update(params, optimizer.init(params), params);
 * const next = optimizer.restart(state, params);
 * assertEquals(await next.count.item(), 1);
 * assertEquals(await next.adapters.count.item(), 0);
 * ```
 */
export function stagewise<S extends Tree>(
  make: (learningRate: Schedule) => Optimizer<S>,
  options: StagewiseOptions,
): StagewiseOptimizer<S> {
  const { learningRate, rewarm = 0 } = options;
  const schedule = typeof learningRate === "number"
    ? () => tensor(learningRate)
    : learningRate;
  const { init: start } = make(schedule);
  const zero = () => zeros([], { dtype: "i32" });
  const split = <P extends Tree>(t: P) => tree.partition(t, isAdapter);

  function init(params: Tree): StagewiseState<S> {
    const [adapters, rest] = split(params);
    return {
      count: zero(),
      stage: zero(),
      adapters: start(adapters),
      rest: start(rest),
    };
  }

  function update<P extends Tree>(
    grads: P,
    state: StagewiseState<S>,
    params: P,
  ): Update<P, StagewiseState<S>> {
    return scope(() => {
      const rate = schedule(state.count);
      const warm = state.stage.cast("f32").div(Math.max(rewarm, 1)).minimum(1);
      const own = rewarm > 0 ? rate.mul(warm) : rate;
      const [adapters, rest] = split(params);
      const [adapterGrads, restGrads] = split(grads);
      const fast = make(() => own).update(
        adapterGrads,
        state.adapters,
        adapters,
      );
      const slow = make(() => rate).update(restGrads, state.rest, rest);
      return {
        updates: tree.merge(fast.updates, slow.updates),
        state: {
          count: state.count.add(1),
          stage: state.stage.add(1),
          adapters: fast.state,
          rest: slow.state,
        },
      };
    });
  }

  function restart(
    state: StagewiseState<S>,
    params: Tree,
  ): StagewiseState<S> {
    return { ...state, stage: zero(), adapters: start(split(params)[0]) };
  }
  return { init, update, restart };
}
