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
import { gpt2, gpt2ForSequenceClassification, gpt2Model } from "./gpt2.ts";
import type { GPT2Config } from "./gpt2_config.ts";
import { llama, llamaForSequenceClassification, llamaModel } from "./llama.ts";
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
  type BertModelParams,
  type BertParams,
  type BertSequenceClassifierParams,
  type BertTokenClassifierParams,
} from "./bert.ts";
export type { BertBody, BertLayer, PooledBertBody } from "./bert_body.ts";
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
export type {
  DistilbertBody,
  DistilbertLayer,
  DistilbertModelParams,
} from "./distilbert_body.ts";
export type { DistilbertConfig } from "./distilbert_config.ts";
export type { WithHead } from "./decoder.ts";
export type { WithScore } from "./decoder_classifier.ts";
export { gpt2, gpt2ForSequenceClassification, gpt2Model } from "./gpt2.ts";
export type { GPT2Config } from "./gpt2_config.ts";
export type {
  GPT2BaseParams,
  GPT2ClassifierParams,
  GPT2Layer,
  GPT2Params,
} from "./gpt2_params.ts";
export { llama, llamaForSequenceClassification, llamaModel } from "./llama.ts";
export type { LlamaConfig } from "./llama_config.ts";
export type {
  LlamaBaseParams,
  LlamaClassifierParams,
  LlamaLayer,
  LlamaParams,
} from "./llama_params.ts";
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
  type RobertaModelParams,
  type RobertaParams,
  type RobertaSequenceClassifierParams,
  type RobertaTokenClassifierParams,
} from "./roberta.ts";

type Build = (config: RawConfig) => Model;

/** The models of Llama and its kin, whose architectures begin with a name. */
function kin(name: string): Record<string, Build> {
  return {
    [`${name}ForCausalLM`]: (config) => llama(config as LlamaConfig),
    [`${name}ForSequenceClassification`]: (config) =>
      llamaForSequenceClassification(config as LlamaConfig),
    [`${name}Model`]: (config) => llamaModel(config as LlamaConfig),
  };
}

/** The models of an encoder, whose architectures begin with a name. */
function encoders<C extends RawConfig>(
  name: string,
  builds: Encoders<C>,
): Record<string, Build> {
  const heads = [
    "ForMaskedLM",
    "ForSequenceClassification",
    "ForTokenClassification",
    "Model",
  ];
  return Object.fromEntries(
    heads.map((head, i) => [
      name + head,
      (config: RawConfig) => builds[i]!(config as C),
    ]),
  );
}

/** With the head of masked language modelling, as classifiers of sequences and of tokens, and without a head. */
type Encoders<C> = readonly ((config: C) => Model)[];

const robertas: Encoders<RobertaConfig> = [
  roberta,
  robertaForSequenceClassification,
  robertaForTokenClassification,
  robertaModel,
];

/** Models by the name that config.json gives in `architectures`. */
const architectures: Readonly<Record<string, Build>> = {
  GPT2LMHeadModel: (config) => gpt2(config as GPT2Config),
  GPT2ForSequenceClassification: (config) =>
    gpt2ForSequenceClassification(config as GPT2Config),
  GPT2Model: (config) => gpt2Model(config as GPT2Config),
  ...kin("Llama"),
  ...kin("Mistral"),
  ...kin("Qwen2"),
  ...kin("Qwen3"),
  ...kin("SmolLM3"),
  ...encoders<BertConfig>("Bert", [
    bert,
    bertForSequenceClassification,
    bertForTokenClassification,
    bertModel,
  ]),
  ...encoders("Roberta", robertas),
  ...encoders("Camembert", robertas),
  ...encoders("XLMRoberta", robertas),
  ...encoders<DistilbertConfig>("DistilBert", [
    distilbert,
    distilbertForSequenceClassification,
    distilbertForTokenClassification,
    distilbertModel,
  ]),
};

/** The class that stands for each model_type where a config.json names no architecture. */
const byType: Readonly<Record<string, string>> = {
  bert: "BertForMaskedLM",
  camembert: "CamembertForMaskedLM",
  distilbert: "DistilBertForMaskedLM",
  gpt2: "GPT2LMHeadModel",
  llama: "LlamaForCausalLM",
  mistral: "MistralForCausalLM",
  qwen2: "Qwen2ForCausalLM",
  qwen3: "Qwen3ForCausalLM",
  roberta: "RobertaForMaskedLM",
  smollm3: "SmolLM3ForCausalLM",
  "xlm-roberta": "XLMRobertaForMaskedLM",
};

/**
 * The model that a config.json describes: by its first architecture, or where it names none, the language model of its
 * model_type. An architecture without a head, such as GPT2Model, gives the last hidden state, [B, T, C].
 *
 * Throws `FormatError` for an architecture that is not there, and lists those that are.
 *
 * @example
 * ```ts
 * import { assertEquals, assertThrows } from "@std/assert";
 * import { FormatError } from "cotan";
 * import { isCausal, modelFromConfig } from "cotan/nn";
 *
 * const config = { model_type: "gpt2", vocab_size: 10, n_embd: 8, n_layer: 1, n_head: 2 };
 * assertEquals(isCausal(modelFromConfig(config)), true);
 * assertThrows(() => modelFromConfig({ architectures: ["Other"] }), FormatError, "LlamaForCausalLM");
 * ```
 */
export function modelFromConfig(config: RawConfig): Model {
  const { architectures: names, model_type } = config;
  const given = Array.isArray(names) ? names[0] : undefined;
  const type = String(model_type);
  const name = given ?? (Object.hasOwn(byType, type) ? byType[type] : null);
  const build = Object.hasOwn(architectures, String(name))
    ? architectures[String(name)]
    : undefined;
  if (build) return build(config);
  const what = given === undefined && model_type !== undefined
    ? `model_type ${JSON.stringify(model_type)}`
    : `architecture ${JSON.stringify(given) ?? "undefined"}`;
  throw new FormatError(
    `Cannot build a model of ${what}: there are ${
      Object.keys(architectures).join(", ")
    }`,
  );
}
