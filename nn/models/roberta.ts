/**
 * RoBERTa (Liu et al., arXiv 1907.11692): BERT's encoder with positions that leave padding out, and heads of its own.
 *
 * CamemBERT and XLM-RoBERTa are the same under the same names.
 *
 * Letters: B batch, T time, C channels, V vocabulary, L labels.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Tensor } from "../../core/mod.ts";
import { type Linear, linear } from "../linear.ts";
import { layerNorm, type Norm } from "../norm.ts";
import { pooler } from "../pooling.ts";
import {
  type BertBody,
  bertEncoder,
  type BertParts,
  bodyTable,
  type PooledBertBody,
  pooledTable,
} from "./bert_body.ts";
import {
  type BertConfig,
  checkBertConfig,
  type FullBertConfig,
} from "./bert_config.ts";
import { readConfig } from "./config.ts";
import type { Model } from "./model.ts";
import { dense, gain } from "./parameters.ts";

/** Fields of config.json that shape a RoBERTa; defaults are those of Hugging Face's RobertaConfig. */
export type RobertaConfig = BertConfig & {
  /** Id of padding, which has no position; those of other tokens begin at pad_token_id + 1; 1. */
  readonly pad_token_id?: number;
};

/** A checked configuration. */
type FullRobertaConfig = FullBertConfig & { readonly pad_token_id: number };

/** Parameters of RoBERTa with the head of masked language modelling, under Hugging Face's names. */
export type RobertaParams = {
  /** The encoder. */
  readonly roberta: BertBody;
  /** The head; its matrix is the embedding's table. */
  readonly lm_head: {
    /** [V]. */
    readonly bias: Tensor;
    /** [C, C]. */
    readonly dense: Linear;
    /** After the activation. */
    readonly layer_norm: Norm;
  };
};

/** Parameters of RoBERTa without a head, under the names of Hugging Face's classes that have one. */
export type RobertaModelParams = {
  /** The encoder and its pooler. */
  readonly roberta: PooledBertBody;
};

/** Parameters of RoBERTa that classifies sequences, under Hugging Face's names. */
export type RobertaSequenceClassifierParams = {
  /** The encoder. */
  readonly roberta: BertBody;
  /** Of the first token: [C, C], and [L, C] after tanh. */
  readonly classifier: { readonly dense: Linear; readonly out_proj: Linear };
};

/** Parameters of RoBERTa that classifies tokens, under Hugging Face's names. */
export type RobertaTokenClassifierParams = {
  /** The encoder. */
  readonly roberta: BertBody;
  /** [L, C]. */
  readonly classifier: Linear;
};

/**
 * RoBERTa with the head of masked language modelling, Hugging Face's RobertaForMaskedLM: `apply` gives logits [B, T, V].
 *
 * Positions count the ids other than pad_token_id, whatever `mask` says. Throws as `bert` does; the longest sequence
 * has max_position_embeddings - pad_token_id - 1 tokens.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, tensor } from "cotan";
 * import { roberta } from "cotan/nn";
 *
 * const model = roberta({
 *   vocab_size: 10,
 *   hidden_size: 8,
 *   intermediate_size: 16,
 *   num_hidden_layers: 1,
 *   num_attention_heads: 2,
 * });
 * const params = model.init(random.key(0));
 * const ids = tensor(Int32Array.of(0, 5, 2), { shape: [1, 3] });
 * assertEquals(model.apply(params, ids).shape, [1, 3, 10]);
 * ```
 */
export function roberta(config: RobertaConfig): Model<RobertaParams> {
  const full = checkRobertaConfig(config);
  readConfig(config, "RoBERTa").expect("tie_word_embeddings", [true]);
  const { hidden_size: C, vocab_size: V, layer_norm_eps: eps } = full;
  return robertaModelOf<RobertaParams>(full, {
    table: {
      ...bodyTable("roberta", full),
      "lm_head.bias": { shape: [V], start: "zeros" },
      ...dense("lm_head.dense", C, C, true),
      ...gain("lm_head.layer_norm", C, true),
    },
    head: ({ roberta, lm_head }, hidden) => {
      // Always gelu, whatever hidden_act says, as in transformers.
      const inner = linear(lm_head.dense, hidden).gelu();
      const { weight } = roberta.embeddings.word_embeddings;
      return linear(
        { weight, bias: lm_head.bias },
        layerNorm(lm_head.layer_norm, inner, { eps }),
      );
    },
  });
}

/**
 * RoBERTa that classifies sequences, Hugging Face's RobertaForSequenceClassification: `apply` gives logits [B, L].
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, tensor } from "cotan";
 * import { robertaForSequenceClassification } from "cotan/nn";
 *
 * const model = robertaForSequenceClassification({
 *   vocab_size: 10,
 *   hidden_size: 8,
 *   intermediate_size: 16,
 *   num_hidden_layers: 1,
 *   num_attention_heads: 2,
 *   num_labels: 3,
 * });
 * const params = model.init(random.key(0));
 * const ids = tensor(Int32Array.of(0, 5, 2), { shape: [1, 3] });
 * assertEquals(model.apply(params, ids).shape, [1, 3]);
 * ```
 */
export function robertaForSequenceClassification(
  config: RobertaConfig,
): Model<RobertaSequenceClassifierParams> {
  const full = checkRobertaConfig(config);
  const { hidden_size: C, num_labels: L } = full;
  return robertaModelOf<RobertaSequenceClassifierParams>(full, {
    table: {
      ...bodyTable("roberta", full),
      ...dense("classifier.dense", C, C, true),
      ...dense("classifier.out_proj", L, C, true),
    },
    head: ({ classifier }, hidden) =>
      linear(classifier.out_proj, pooler(classifier, hidden)),
  });
}

/**
 * RoBERTa that classifies tokens, Hugging Face's RobertaForTokenClassification: `apply` gives logits [B, T, L].
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, tensor } from "cotan";
 * import { robertaForTokenClassification } from "cotan/nn";
 *
 * const model = robertaForTokenClassification({
 *   vocab_size: 10,
 *   hidden_size: 8,
 *   intermediate_size: 16,
 *   num_hidden_layers: 1,
 *   num_attention_heads: 2,
 *   num_labels: 5,
 * });
 * const params = model.init(random.key(0));
 * const ids = tensor(Int32Array.of(0, 5, 2), { shape: [1, 3] });
 * assertEquals(model.apply(params, ids).shape, [1, 3, 5]);
 * ```
 */
export function robertaForTokenClassification(
  config: RobertaConfig,
): Model<RobertaTokenClassifierParams> {
  const full = checkRobertaConfig(config);
  return robertaModelOf<RobertaTokenClassifierParams>(full, {
    table: {
      ...bodyTable("roberta", full),
      ...dense("classifier", full.num_labels, full.hidden_size, true),
    },
    head: ({ classifier }, hidden) => linear(classifier, hidden),
  });
}

/**
 * RoBERTa without a head, Hugging Face's RobertaModel: `apply` gives the last hidden state [B, T, C], of which
 * `meanPool`, `firstToken` and `pooler(params.roberta.pooler, hidden)` make a vector of each sequence.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, tensor } from "cotan";
 * import { meanPool, robertaModel } from "cotan/nn";
 *
 * const model = robertaModel({
 *   vocab_size: 10,
 *   hidden_size: 8,
 *   intermediate_size: 16,
 *   num_hidden_layers: 1,
 *   num_attention_heads: 2,
 * });
 * const params = model.init(random.key(0));
 * const ids = tensor(Int32Array.of(0, 5, 2), { shape: [1, 3] });
 * assertEquals(meanPool(model.apply(params, ids)).shape, [1, 8]);
 * ```
 */
export function robertaModel(config: RobertaConfig): Model<RobertaModelParams> {
  const full = checkRobertaConfig(config);
  return robertaModelOf<RobertaModelParams>(full, {
    table: pooledTable("roberta", full),
    head: null,
  });
}

function robertaModelOf<P extends { readonly roberta: BertBody }>(
  config: FullRobertaConfig,
  parts: Pick<BertParts<P>, "table" | "head">,
): Model<P> {
  const { max_position_embeddings: rows, pad_token_id: pad } = config;
  return bertEncoder<P>(config, {
    ...parts,
    body: (params) => params.roberta,
    limit: {
      field: "max_position_embeddings - pad_token_id - 1 =",
      count: rows - pad - 1,
    },
    positions: (ids) => {
      const isToken = ids.ne(pad).cast("i32");
      return isToken.cumsum({ axis: 1 }).mul(isToken).add(pad);
    },
  });
}

function checkRobertaConfig(config: RobertaConfig): FullRobertaConfig {
  const read = readConfig(config, "RoBERTa");
  const full = checkBertConfig(config, "RoBERTa");
  const pad = config.pad_token_id ?? 1;
  if (!Number.isSafeInteger(pad) || pad < 0) {
    read.fail(
      `pad_token_id is ${
        JSON.stringify(pad)
      }, and must be a non-negative integer`,
    );
  }
  if (pad + 1 >= full.max_position_embeddings) {
    read.fail(
      `max_position_embeddings ${full.max_position_embeddings} leaves no position behind pad_token_id ${pad}`,
    );
  }
  return { ...full, pad_token_id: pad };
}
