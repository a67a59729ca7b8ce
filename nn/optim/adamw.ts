/**
 * Adam with decoupled weight decay.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { type AdamOptions, adamRule, type AdamState } from "./adam_rule.ts";
import type { Optimizer } from "./optimizer.ts";

/** Options of `adamw`. */
export type AdamWOptions = AdamOptions;

/** State of `adamw`. */
export type AdamWState = AdamState;

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
  return adamRule({ weightDecay: 0.01, ...options }, "step");
}
