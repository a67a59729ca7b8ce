/**
 * Metrics: how good predictions are, as numbers of plain data.
 *
 * This module is browser compatible.
 *
 * @module
 */

export { bleu } from "./bleu.ts";
export { chrf } from "./chrf.ts";
export {
  accuracy,
  type Classes,
  f1,
  type F1Options,
  matthews,
} from "./classification.ts";
export { pearson, spearman } from "./correlation.ts";
export { perplexity } from "./perplexity.ts";
export { rougeL } from "./rouge.ts";
export type { References } from "./text.ts";
