/**
 * BERT: an encoder that learns from masked tokens (Devlin et al., arXiv 1810.04805), and classifiers on it.
 *
 * Letters: B batch, T time, C channels, V vocabulary, L labels.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { iota, type Tensor } from "../../core/mod.ts";
import { type Linear, linear } from "../linear.ts";
import { layerNorm, type Norm } from "../norm.ts";
import { pooler } from "../pooling.ts";
import { activationOf } from "./activations.ts";
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

/** Parameters of BERT with the head of masked language modelling, under Hugging Face's names. */
export type BertParams = {
  /** The encoder. */
  readonly bert: BertBody;
  /** The head; its matrix is the embedding's table. */
  readonly cls: {
    readonly predictions: {
      /** [V]. */
      readonly bias: Tensor;
      /** [C, C], and the norm after the activation. */
      readonly transform: { readonly dense: Linear; readonly LayerNorm: Norm };
    };
  };
};

/** Parameters of BERT without a head, under the names of Hugging Face's classes that have one. */
export type BertModelParams = {
  /** The encoder and its pooler. */
  readonly bert: PooledBertBody;
};

/** Parameters of BERT that classifies sequences, under Hugging Face's names. */
export type BertSequenceClassifierParams = BertModelParams & {
  /** [L, C]. */
  readonly classifier: Linear;
};

/** Parameters of BERT that classifies tokens, under Hugging Face's names. */
export type BertTokenClassifierParams = {
  /** The encoder. */
  readonly bert: BertBody;
  /** [L, C]. */
  readonly classifier: Linear;
};

/**
 * BERT with the head of masked language modelling, Hugging Face's BertForMaskedLM: `apply` gives logits [B, T, V].
 *
 * `tokenTypes` tells segments apart. A token that `mask` hides is seen by none. Throws `FormatError` for a
 * configuration that is incomplete or asks for what is not supported; a sequence longer than
 * max_position_embeddings is a `ShapeError`. Rows of the tables that belong to padding learn like all others.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, tensor } from "cotan";
 * import { bert } from "cotan/nn";
 *
 * const model = bert({
 *   vocab_size: 10,
 *   hidden_size: 8,
 *   intermediate_size: 16,
 *   num_hidden_layers: 1,
 *   num_attention_heads: 2,
 * });
 * const params = model.init(random.key(0));
 * const ids = tensor(Int32Array.of(1, 2, 3), { shape: [1, 3] });
 * assertEquals(model.apply(params, ids).shape, [1, 3, 10]);
 * ```
 */
export function bert(config: BertConfig): Model<BertParams> {
  const full = checkBertConfig(config, "BERT");
  readConfig(config, "BERT").expect("tie_word_embeddings", [true]);
  const { hidden_size: C, vocab_size: V, layer_norm_eps: eps } = full;
  const activation = activationOf(full.hidden_act);
  const predictions = "cls.predictions";
  return bertModelOf<BertParams>(full, {
    table: {
      ...bodyTable("bert", full),
      [`${predictions}.bias`]: { shape: [V], start: "zeros" },
      ...dense(`${predictions}.transform.dense`, C, C, true),
      ...gain(`${predictions}.transform.LayerNorm`, C, true),
    },
    head: ({ bert, cls }, hidden) => {
      const { bias, transform } = cls.predictions;
      const inner = activation(linear(transform.dense, hidden));
      const { weight } = bert.embeddings.word_embeddings;
      return linear(
        { weight, bias },
        layerNorm(transform.LayerNorm, inner, { eps }),
      );
    },
  });
}

/**
 * BERT that classifies sequences, Hugging Face's BertForSequenceClassification: `apply` gives logits [B, L].
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, tensor } from "cotan";
 * import { bertForSequenceClassification, classificationLoss } from "cotan/nn";
 *
 * const model = bertForSequenceClassification({
 *   vocab_size: 10,
 *   hidden_size: 8,
 *   intermediate_size: 16,
 *   num_hidden_layers: 1,
 *   num_attention_heads: 2,
 *   num_labels: 3,
 * });
 * const params = model.init(random.key(0));
 * const ids = tensor(Int32Array.of(1, 2, 3, 4, 5, 0), { shape: [2, 3] });
 * const mask = tensor(Int32Array.of(1, 1, 1, 1, 1, 0), { shape: [2, 3] });
 * const logits = model.apply(params, ids, { mask });
 * assertEquals(logits.shape, [2, 3]);
 * const loss = classificationLoss(logits, tensor(Int32Array.of(0, 2)));
 * assertEquals(loss.shape, []);
 * ```
 */
export function bertForSequenceClassification(
  config: BertConfig,
): Model<BertSequenceClassifierParams> {
  const full = checkBertConfig(config, "BERT");
  return bertModelOf<BertSequenceClassifierParams>(full, {
    table: {
      ...pooledTable("bert", full),
      ...dense("classifier", full.num_labels, full.hidden_size, true),
    },
    head: ({ bert, classifier }, hidden) =>
      linear(classifier, pooler(bert.pooler, hidden)),
  });
}

/**
 * BERT that classifies tokens, Hugging Face's BertForTokenClassification: `apply` gives logits [B, T, L].
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, tensor } from "cotan";
 * import { bertForTokenClassification } from "cotan/nn";
 *
 * const model = bertForTokenClassification({
 *   vocab_size: 10,
 *   hidden_size: 8,
 *   intermediate_size: 16,
 *   num_hidden_layers: 1,
 *   num_attention_heads: 2,
 *   id2label: { 0: "O", 1: "B-PER", 2: "I-PER" },
 * });
 * const params = model.init(random.key(0));
 * const ids = tensor(Int32Array.of(1, 2, 3, 4), { shape: [1, 4] });
 * assertEquals(model.apply(params, ids).shape, [1, 4, 3]);
 * ```
 */
export function bertForTokenClassification(
  config: BertConfig,
): Model<BertTokenClassifierParams> {
  const full = checkBertConfig(config, "BERT");
  return bertModelOf<BertTokenClassifierParams>(full, {
    table: {
      ...bodyTable("bert", full),
      ...dense("classifier", full.num_labels, full.hidden_size, true),
    },
    head: ({ classifier }, hidden) => linear(classifier, hidden),
  });
}

/**
 * BERT without a head, Hugging Face's BertModel: `apply` gives the last hidden state [B, T, C].
 *
 * `meanPool`, `firstToken` and `pooler(params.bert.pooler, hidden)` make a vector of a sequence of it, `normalize` one of
 * length 1.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, tensor } from "cotan";
 * import { bertModel, meanPool, normalize, pooler } from "cotan/nn";
 *
 * const model = bertModel({
 *   vocab_size: 10,
 *   hidden_size: 8,
 *   intermediate_size: 16,
 *   num_hidden_layers: 1,
 *   num_attention_heads: 2,
 * });
 * const params = model.init(random.key(0));
 * const ids = tensor(Int32Array.of(1, 2, 3, 4, 5, 0), { shape: [2, 3] });
 * const mask = tensor(Int32Array.of(1, 1, 1, 1, 1, 0), { shape: [2, 3] });
 * const hidden = model.apply(params, ids, { mask });
 * const sentences = normalize(meanPool(hidden, mask));
 * assertEquals(sentences.shape, [2, 8]);
 * assertEquals(pooler(params.bert.pooler, hidden).shape, [2, 8]);
 * ```
 */
export function bertModel(config: BertConfig): Model<BertModelParams> {
  const full = checkBertConfig(config, "BERT");
  return bertModelOf<BertModelParams>(full, {
    table: pooledTable("bert", full),
    head: null,
  });
}

function bertModelOf<P extends { readonly bert: BertBody }>(
  config: FullBertConfig,
  parts: Pick<BertParts<P>, "table" | "head">,
): Model<P> {
  return bertEncoder<P>(config, {
    ...parts,
    body: (params) => params.bert,
    limit: {
      field: "max_position_embeddings",
      count: config.max_position_embeddings,
    },
    positions: (ids) => iota([ids.shape[1]!]),
  });
}
