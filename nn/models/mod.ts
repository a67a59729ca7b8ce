/**
 * Models, and the choice of one by its configuration.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { FormatError } from "../../core/mod.ts";
import {
  bert,
  bertForSequenceClassification,
  bertForTokenClassification,
  bertModel,
} from "./bert.ts";
import type { BertConfig } from "./bert_config.ts";
import type { RawConfig } from "./config.ts";
import {
  distilbert,
  distilbertForSequenceClassification,
  distilbertForTokenClassification,
  distilbertModel,
} from "./distilbert.ts";
import type { DistilbertConfig } from "./distilbert_config.ts";
import { llama } from "./llama.ts";
import type { LlamaConfig } from "./llama_config.ts";
import type { Model } from "./model.ts";
import {
  roberta,
  type RobertaConfig,
  robertaForSequenceClassification,
  robertaForTokenClassification,
  robertaModel,
} from "./roberta.ts";

export {
  bert,
  bertForSequenceClassification,
  bertForTokenClassification,
  bertModel,
  type BertParams,
  type BertSequenceClassifierParams,
  type BertTokenClassifierParams,
} from "./bert.ts";
export type { BertBody, BertLayer, BertModelParams } from "./bert_body.ts";
export type { BertConfig } from "./bert_config.ts";
export type { Cache, LayerCache } from "./cache.ts";
export type { RawConfig } from "./config.ts";
export {
  distilbert,
  distilbertForSequenceClassification,
  distilbertForTokenClassification,
  distilbertModel,
  type DistilbertParams,
  type DistilbertSequenceClassifierParams,
  type DistilbertTokenClassifierParams,
} from "./distilbert.ts";
export type { DistilbertBody, DistilbertLayer } from "./distilbert_body.ts";
export type { DistilbertConfig } from "./distilbert_config.ts";
export { llama } from "./llama.ts";
export type { LlamaConfig } from "./llama_config.ts";
export type { LlamaLayer, LlamaParams } from "./llama_params.ts";
export {
  type ApplyOptions,
  type CausalModel,
  isCausal,
  type Model,
  type ModelConfig,
  type StepOptions,
  type StepResult,
} from "./model.ts";
export {
  roberta,
  type RobertaConfig,
  robertaForSequenceClassification,
  robertaForTokenClassification,
  robertaModel,
  type RobertaParams,
  type RobertaSequenceClassifierParams,
  type RobertaTokenClassifierParams,
} from "./roberta.ts";

/** Models by the name that config.json gives in `architectures`. */
const architectures: Readonly<Record<string, (config: RawConfig) => Model>> = {
  BertForMaskedLM: (config) => bert(config as BertConfig),
  BertForSequenceClassification: (config) =>
    bertForSequenceClassification(config as BertConfig),
  BertForTokenClassification: (config) =>
    bertForTokenClassification(config as BertConfig),
  BertModel: (config) => bertModel(config as BertConfig),
  RobertaForMaskedLM: (config) => roberta(config as RobertaConfig),
  RobertaForSequenceClassification: (config) =>
    robertaForSequenceClassification(config as RobertaConfig),
  RobertaForTokenClassification: (config) =>
    robertaForTokenClassification(config as RobertaConfig),
  RobertaModel: (config) => robertaModel(config as RobertaConfig),
  CamembertForMaskedLM: (config) => roberta(config as RobertaConfig),
  CamembertForSequenceClassification: (config) =>
    robertaForSequenceClassification(config as RobertaConfig),
  CamembertForTokenClassification: (config) =>
    robertaForTokenClassification(config as RobertaConfig),
  CamembertModel: (config) => robertaModel(config as RobertaConfig),
  XLMRobertaForMaskedLM: (config) => roberta(config as RobertaConfig),
  XLMRobertaForSequenceClassification: (config) =>
    robertaForSequenceClassification(config as RobertaConfig),
  XLMRobertaForTokenClassification: (config) =>
    robertaForTokenClassification(config as RobertaConfig),
  XLMRobertaModel: (config) => robertaModel(config as RobertaConfig),
  DistilBertForMaskedLM: (config) => distilbert(config as DistilbertConfig),
  DistilBertForSequenceClassification: (config) =>
    distilbertForSequenceClassification(config as DistilbertConfig),
  DistilBertForTokenClassification: (config) =>
    distilbertForTokenClassification(config as DistilbertConfig),
  DistilBertModel: (config) => distilbertModel(config as DistilbertConfig),
  LlamaForCausalLM: (config) => llama(config as LlamaConfig),
};

/**
 * The model that a config.json describes, by its first architecture.
 *
 * Throws `FormatError` for an architecture that is not there, and lists those that are.
 *
 * @example
 * ```ts
 * import { assertThrows } from "@std/assert";
 * import { FormatError } from "cotan";
 * import { modelFromConfig } from "cotan/nn";
 *
 * assertThrows(() => modelFromConfig({ architectures: ["Other"] }), FormatError, "LlamaForCausalLM");
 * ```
 */
export function modelFromConfig(config: RawConfig): Model {
  const { architectures: names } = config;
  const name = Array.isArray(names) ? names[0] : undefined;
  const build = Object.hasOwn(architectures, String(name))
    ? architectures[String(name)]
    : undefined;
  if (build) return build(config);
  throw new FormatError(
    `Cannot build a model of architecture ${
      JSON.stringify(name) ?? "undefined"
    }: there are ${Object.keys(architectures).join(", ")}`,
  );
}
