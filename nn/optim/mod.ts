/**
 * Optimizers and learning-rate schedules.
 *
 * This module is browser compatible.
 *
 * @module
 */

export { adamw, type AdamWOptions, type AdamWState } from "./adamw.ts";
export { chain } from "./chain.ts";
export { clipByGlobalNorm, globalNorm } from "./clip.ts";
export {
  applyUpdates,
  type Optimizer,
  type Schedule,
  type Update,
} from "./optimizer.ts";
export {
  constant,
  warmupCosine,
  warmupLinear,
  type WarmupOptions,
} from "./schedules.ts";
export { sgd, type SgdOptions, type SgdState } from "./sgd.ts";
