/**
 * Optimizers, learning-rate schedules and averages of weights.
 *
 * This module is browser compatible.
 *
 * @module
 */

export { accumulate, type AccumulateState } from "./accumulate.ts";
export {
  adafactor,
  type AdafactorOptions,
  type AdafactorState,
} from "./adafactor.ts";
export { adam } from "./adam.ts";
export type { AdamOptions, AdamState } from "./adam_rule.ts";
export { adamw, type AdamWOptions, type AdamWState } from "./adamw.ts";
export { chain } from "./chain.ts";
export { clipByGlobalNorm, clipByValue, globalNorm } from "./clip.ts";
export type { DecayOptions } from "./decay.ts";
export { type Ema, ema, type EmaOptions, type EmaState } from "./ema.ts";
export { lion, type LionOptions, type LionState } from "./lion.ts";
export { meanGradients } from "./mean_gradients.ts";
export {
  muon,
  type MuonOptions,
  type MuonState,
  orthogonalize,
} from "./muon.ts";
export {
  applyUpdates,
  type Optimizer,
  type Schedule,
  type Update,
} from "./optimizer.ts";
export { type OptimizerGroup, partitioned } from "./partitioned.ts";
export {
  constant,
  oneCycle,
  type OneCycleOptions,
  warmupConstant,
  type WarmupConstantOptions,
  warmupCosine,
  warmupCosineRestarts,
  type WarmupCosineRestartsOptions,
  warmupInverseSqrt,
  type WarmupInverseSqrtOptions,
  warmupLinear,
  type WarmupOptions,
  warmupPolynomial,
  type WarmupPolynomialOptions,
} from "./schedules.ts";
export { sgd, type SgdOptions, type SgdState } from "./sgd.ts";
