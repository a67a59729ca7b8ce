/**
 * LoRA: low-rank adapters as transforms of parameter trees.
 *
 * @module
 */

export { dylora, type DyloraOptions } from "./dylora.ts";
export { isAdapter, lora, type LoraOptions } from "./lora.ts";
export {
  type Cascade,
  type CascadeState,
  lorasc,
  type LorascOptions,
} from "./lorasc.ts";
export { dropAdapters, mergeAdapters, scaleAdapters } from "./merge.ts";
export { loadPeft, savePeft, type SavePeftOptions } from "./peft.ts";
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
export { type Report, report, type ReportRow } from "./report.ts";
export {
  stagewise,
  type StagewiseOptimizer,
  type StagewiseOptions,
  type StagewiseState,
} from "./stagewise.ts";
