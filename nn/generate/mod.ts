/**
 * Generation of tokens and of text.
 *
 * This module is browser compatible.
 *
 * @module
 */

export { beamSearch, type BeamSearchOptions } from "./beam_search.ts";
export { generate, generateBatch, type GenerateOptions } from "./generate.ts";
export type { Hypothesis, ScoreOptions } from "./hypotheses.ts";
export type { RepetitionOptions } from "./processors.ts";
export type { RequestOptions } from "./request.ts";
export type { SamplingOptions } from "./sampling.ts";
export {
  generateText,
  type GenerateTextOptions,
  type TextTokenizer,
} from "./text.ts";
