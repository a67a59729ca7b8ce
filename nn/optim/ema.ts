/**
 * Exponential moving averages of weights.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { scope, type Tensor, type Tree, tree, zeros } from "../../core/mod.ts";
import { checkShare } from "./checks.ts";
import { correction } from "./moments.ts";

/** Options of `ema`. */
export interface EmaOptions {
  /** How much of the average is kept at an update. */
  readonly decay: number;
  /** Whether the first parameters are left out, and the others weighted as if there had been no start; false. */
  readonly debias?: boolean;
}

/** State of `ema`. */
export type EmaState<P extends Tree> = {
  /** Updates done, i32. */
  readonly count: Tensor;
  /** The average. */
  readonly average: P;
};

/** An average of parameters: pure functions over trees. */
export interface Ema {
  /** The state before the first update: a copy of the parameters. */
  init<P extends Tree>(params: P): EmaState<P>;
  /** The state with these parameters averaged in. */
  update<P extends Tree>(params: P, state: EmaState<P>): EmaState<P>;
  /** The averaged parameters, tensors of the state. */
  params<P extends Tree>(state: EmaState<P>): P;
}

/**
 * An exponential moving average of parameters (Polyak and Juditsky 1992): average ← decay · average + (1 - decay) · p from
 * the first parameters on.
 *
 * With `debias` update t, from 1, takes (1 - decay) / (1 - decayᵗ) for 1 - decay: the average is that of the updates
 * alone, corrected as Adam's moments are (arXiv 1412.6980, section 3), and at every t one of weights.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { ema } from "cotan/nn";
 *
 * const average = ema({ decay: 0.75 });
 * const state = average.init({ w: tensor([0]) });
 * const next = average.update({ w: tensor([8]) }, state);
 * assertEquals(await average.params(next).w.toArray(), [2]);
 * ```
 */
export function ema({ decay, debias = false }: EmaOptions): Ema {
  checkShare("decay", decay);
  return {
    init: (params) =>
      scope(() => ({
        count: zeros([], { dtype: "i32" }),
        average: tree.map((p) => p.mul(1), params),
      })),
    update: (params, { count, average }) =>
      scope(() => {
        const next = count.add(1);
        const taken = debias
          ? correction(next.cast("f32"), decay).reciprocal().mul(1 - decay)
          : 1 - decay;
        const kept = typeof taken === "number" ? decay : taken.neg().add(1);
        return {
          count: next,
          average: tree.map(
            (p, a) => a!.mul(kept).add(p.mul(taken)),
            params,
            average,
          ),
        };
      }),
    params: ({ average }) => average,
  };
}
