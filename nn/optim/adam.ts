/**
 * Adam.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { type AdamOptions, adamRule, type AdamState } from "./adam_rule.ts";
import type { Optimizer } from "./optimizer.ts";

/**
 * Adam (Kingma and Ba, arXiv 1412.6980, algorithm 1) as torch.optim.Adam has it:
 *
 * g ← g + weightDecay · p, m ← b1 m + (1 - b1) g, v ← b2 v + (1 - b2) g², and with t counted from 1
 * p ← p - rate · m / (1 - b1ᵗ) / (√(v / (1 - b2ᵗ)) + eps).
 *
 * With `amsgrad` the largest v so far stands for v, and is corrected as v is; its paper has no correction.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { adam, applyUpdates } from "cotan/nn";
 *
 * const optimizer = adam({ learningRate: 0.1 });
 * const params = { w: tensor([1]) }, grads = { w: tensor([-5]) };
 * const { updates } = optimizer.update(grads, optimizer.init(params), params);
 * assertAlmostEquals(await applyUpdates(params, updates).w.item(), 1.1, 1e-6);
 * ```
 */
export function adam(options: AdamOptions): Optimizer<AdamState> {
  return adamRule(options, "gradient");
}
