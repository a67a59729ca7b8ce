/**
 * The rule that Adam and AdamW share.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { type Tensor, type Tree, tree, zeros } from "../../core/mod.ts";
import { checked, checkRate, checkShare } from "./checks.ts";
import { type DecayOptions, withDecay } from "./decay.ts";
import { average, correction } from "./moments.ts";
import {
  type Optimizer,
  type Schedule,
  type Update,
  zerosLike,
} from "./optimizer.ts";
import { scheduleOf } from "./schedules.ts";

/** Options of `adam` and `adamw`. */
export interface AdamOptions extends DecayOptions {
  /** A number, or a schedule. */
  readonly learningRate: number | Schedule;
  /** How much of the first moment is kept; 0.9. */
  readonly b1?: number;
  /** How much of the second moment is kept; 0.999. */
  readonly b2?: number;
  /** Added to the root of the second moment; 1e-8. */
  readonly eps?: number;
  /** Whether steps are divided by the largest second moment so far (Reddi et al., arXiv 1904.09237); false. */
  readonly amsgrad?: boolean;
}

/** State of `adam` and `adamw`: trees like the parameters. */
export type AdamState = {
  /** Updates done, i32. */
  readonly count: Tensor;
  /** First moments. */
  readonly mu: Tree;
  /** Second moments. */
  readonly nu: Tree;
  /** The largest second moments so far; null without AMSGrad. */
  readonly nuMax: Tree;
};

/** Adam with weight decay added to the gradient, or to the step. */
export function adamRule(
  options: AdamOptions,
  decayed: "gradient" | "step",
): Optimizer<AdamState> {
  const {
    learningRate,
    b1 = 0.9,
    b2 = 0.999,
    eps = 1e-8,
    weightDecay = 0,
    amsgrad = false,
    mask,
  } = options;
  checkShare("b1", b1);
  checkShare("b2", b2);
  checkRate("eps", eps);
  checkRate("weightDecay", weightDecay);
  const rate = scheduleOf(learningRate);

  function init(params: Tree): AdamState {
    return {
      count: zeros([], { dtype: "i32" }),
      mu: zerosLike(params),
      nu: zerosLike(params),
      nuMax: amsgrad ? zerosLike(params) : null,
    };
  }

  function update<P extends Tree>(
    grads: P,
    { count, mu: m, nu: v, nuMax: most }: AdamState,
    params: P,
  ): Update<P, AdamState> {
    const lr = rate(count).neg();
    const t = count.cast("f32").add(1);
    const g = decayed === "gradient"
      ? withDecay(grads, params, options)
      : grads;
    const mu = tree.map((g, m) => average(m!, b1, g), g, m);
    const nu = tree.map((g, v) => average(v!, b2, g.square()), g, v);
    const nuMax = amsgrad ? tree.map((v, w) => v.maximum(w!), nu, most) : null;
    // m / c1 / (√(v / c2) + eps) with both corrections as one factor each.
    const c1 = correction(t, b1), c2 = correction(t, b2).sqrt();
    const steps = tree.map(
      (m, v) => m.div(c1).div(v!.sqrt().div(c2).add(eps)),
      mu,
      nuMax ?? nu,
    );
    const moved = decayed === "step"
      ? withDecay(steps, params, options)
      : steps;
    return {
      updates: tree.map((u) => u.mul(lr), moved),
      state: { count: count.add(1), mu, nu, nuMax },
    };
  }
  return checked({ init, update }, mask);
}
