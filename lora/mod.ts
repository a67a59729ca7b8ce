/**
 * LoRA: low-rank adapters as transforms of parameter trees.
 *
 * @module
 */

export { type Combination, combineAdapters, type Combined } from "./combine.ts";
export { withDropout } from "./dropout.ts";
export type { AdapterInit } from "./factors.ts";
export { isAdapter } from "./is_adapter.ts";
export { lora } from "./lora.ts";
export {
  mergeAdapters,
  type MergeCheck,
  type MergeOptions,
  verifyMerge,
} from "./merge.ts";
export {
  activate,
  adapterNames,
  dropAdapters,
  scaleAdapters,
} from "./named.ts";
export type { LoraOptions } from "./options.ts";
export { savePeft, type SavePeftOptions } from "./peft.ts";
export { loadPeft, type LoadPeftOptions } from "./peft_load.ts";
export type { LoadAdapterOptions } from "./adapter_file.ts";
export { fromPissa, type PissaOrigin } from "./pissa_export.ts";
export { dequantize, quantize, type QuantizeOptions } from "./quantize.ts";
export { report } from "./report.ts";
export type { Report, ReportBytes, ReportRow } from "./report_form.ts";
export { stackAdapters, withRows } from "./stack.ts";
export type { TargetOptions } from "./targets.ts";
export { dylora, type DyloraOptions } from "./dylora.ts";
export {
  type Cascade,
  type CascadeState,
  lorasc,
  type LorascOptions,
} from "./lorasc.ts";
export {
  rankwise,
  type RankwiseOptimizer,
  type RankwiseOptions,
  type RankwiseState,
} from "./rankwise.ts";
export {
  atEachRank,
  atRank,
  drawRank,
  type RankDistribution,
  truncate,
} from "./ranks.ts";
export {
  stagewise,
  type StagewiseOptimizer,
  type StagewiseOptions,
  type StagewiseState,
} from "./stagewise.ts";
export { loadLoralib, type LoadLoralibOptions } from "./loralib.ts";
export { loadMlx } from "./mlx.ts";
export { isBias, topLayers } from "./baselines.ts";
export { bottleneck, type BottleneckOptions } from "./bottleneck.ts";
export {
  applyPrefix,
  embeddingPrefix,
  type LayerPrefix,
  layerPrefix,
  type PrefixOptions,
  prefixTokens,
} from "./prefix.ts";
export {
  analyse,
  type Analysis,
  type LayerAnalysis,
  type Similarity,
  subspaceSimilarity,
} from "./analysis.ts";
export { similaritySvg, singularValuesSvg } from "./svg.ts";
