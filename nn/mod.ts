/**
 * Neural networks: layers and losses, models, optimizers, metrics, generation, checkpoints and data.
 *
 * Everything is a pure function of a tree of parameters, or a record of such functions. All of it can be imported in a
 * browser; only what reads and writes files by path needs Deno.
 *
 * @module
 */

export type {
  Adapter,
  Adapters,
  Lora,
  Saved,
  SlicedLora,
} from "./adapter_forms.ts";
export type { Affine } from "./affine.ts";
export { attention, type AttentionOptions } from "./attention.ts";
export {
  classificationLoss,
  type ClassificationLossOptions,
  type Problem,
} from "./classification_loss.ts";
export { type Conv1D, conv1D } from "./conv1d.ts";
export type { Bottleneck } from "./bottleneck.ts";
export {
  crossEntropy,
  type CrossEntropyOptions,
  headCrossEntropy,
} from "./cross_entropy.ts";
export { dropout, type DropoutOptions } from "./dropout.ts";
export {
  binaryCrossEntropy,
  type ElementLossOptions,
  meanSquaredError,
} from "./elementwise_losses.ts";
export { type Embedding, embedding } from "./embedding.ts";
export { type Linear, linear } from "./linear.ts";
export { layerNorm, type Norm, type NormOptions, rmsNorm } from "./norm.ts";
export {
  firstToken,
  meanPool,
  normalize,
  type Pooler,
  pooler,
} from "./pooling.ts";
export { rope, type RopeOptions, type RopeScaling } from "./rope.ts";
export * from "./checkpoint/mod.ts";
export * from "./data/mod.ts";
export * from "./generate/mod.ts";
export * from "./metrics/mod.ts";
export * from "./models/mod.ts";
export * from "./optim/mod.ts";
