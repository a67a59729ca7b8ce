/**
 * The slow adapter of a cascade: what its stages have changed, side by side.
 *
 * Letters: R rank; `in` and `out` are the features of a layer.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { concat, type Tensor, tensor } from "../core/mod.ts";
import type { Lora } from "../nn/adapter_forms.ts";
import { rowNorms } from "../nn/dora.ts";

/** How a stage counts, and the weights [out, in] that it was trained on. */
export interface Stage {
  /** Share of the fast adapter that the slow one takes over. */
  readonly slowRate: number;
  /** What is kept of the slow one. */
  readonly decay: number;
  /** The weight without adapters. */
  base(): Tensor;
  /** The weight that the fast adapter stood on, noise included. */
  stage(): Tensor;
}

/**
 * The slow adapter after a stage: S ← decay · S + slowRate · s B A, as factors beside those of earlier stages.
 *
 * DoRA multiplies rows, by d = m / ‖V‖: W ← (1 - slowRate) W + slowRate · d (W + s B A). The slow weights stay a DoRA
 * adapter g (W₀ + Σ b a) of the base, by g ← g · ((1 - slowRate) + slowRate · d) and b = slowRate · d · s B / g.
 */
export function withStage(slow: Lora | null, fast: Lora, stage: Stage): Lora {
  const { slowRate, decay } = stage;
  const share = fast.b.mul(fast.scale.mul(slowRate));
  const beside = (b: Tensor): Lora => ({
    a: slow ? concat([slow.a, fast.a]) : fast.a,
    b: slow ? concat([slow.b.mul(decay), b], { axis: 1 }) : b,
    scale: tensor(1),
  });
  if (!fast.magnitude) return beside(share);
  const d = fast.magnitude.div(rowNorms(stage.stage(), fast));
  const before = slow?.magnitude
    ? slow.magnitude.div(rowNorms(stage.base(), slow))
    : tensor(1);
  const g = before.mul(d.mul(slowRate).add(1 - slowRate));
  const next = beside(share.mul(d.div(g).unsqueeze(1)));
  return { ...next, magnitude: rowNorms(stage.base(), next).mul(g) };
}
