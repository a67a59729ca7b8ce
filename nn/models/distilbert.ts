/**
 * DistilBERT (Sanh et al., arXiv 1910.01108): BERT with half the blocks, without segments and pooler.
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
import { firstToken } from "../pooling.ts";
import { activationOf } from "./activations.ts";
import { readConfig } from "./config.ts";
import {
  distilbertEncoder,
  type DistilbertModelParams,
  distilbertTable,
  EPS,
} from "./distilbert_body.ts";
import {
  checkDistilbertConfig,
  type DistilbertConfig,
} from "./distilbert_config.ts";
import type { Model } from "./model.ts";
import { dense, gain } from "./parameters.ts";

/** Parameters of DistilBERT with the head of masked language modelling, under Hugging Face's names. */
export type DistilbertParams = DistilbertModelParams & {
  /** [C, C]. */
  readonly vocab_transform: Linear;
  /** After the activation. */
  readonly vocab_layer_norm: Norm;
  /** [V]; the matrix is the embedding's table. */
  readonly vocab_projector: { readonly bias: Tensor };
};

/** Parameters of DistilBERT that classifies sequences, under Hugging Face's names. */
export type DistilbertSequenceClassifierParams = DistilbertModelParams & {
  /** Of the first token, [C, C]. */
  readonly pre_classifier: Linear;
  /** After relu, [L, C]. */
  readonly classifier: Linear;
};

/** Parameters of DistilBERT that classifies tokens, under Hugging Face's names. */
export type DistilbertTokenClassifierParams = DistilbertModelParams & {
  /** [L, C]. */
  readonly classifier: Linear;
};

/**
 * DistilBERT with the head of masked language modelling, Hugging Face's DistilBertForMaskedLM: `apply` gives logits
 * [B, T, V].
 *
 * Throws `FormatError` for a configuration that is incomplete or asks for what is not supported; a sequence longer
 * than max_position_embeddings is a `ShapeError`, and tokenTypes, which it does not know, are a `TypeError`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, tensor } from "cotan";
 * import { distilbert } from "cotan/nn";
 *
 * const model = distilbert({
 *   vocab_size: 10,
 *   dim: 8,
 *   hidden_dim: 16,
 *   n_layers: 1,
 *   n_heads: 2,
 * });
 * const params = model.init(random.key(0));
 * const ids = tensor(Int32Array.of(1, 2, 3), { shape: [1, 3] });
 * assertEquals(model.apply(params, ids).shape, [1, 3, 10]);
 * ```
 */
export function distilbert(config: DistilbertConfig): Model<DistilbertParams> {
  const full = checkDistilbertConfig(config);
  readConfig(config, "DistilBERT").expect("tie_word_embeddings", [true]);
  const { dim: C, vocab_size: V } = full;
  const activation = activationOf(full.activation);
  return distilbertEncoder<DistilbertParams>(full, {
    table: {
      ...distilbertTable(full),
      ...dense("vocab_transform", C, C, true),
      ...gain("vocab_layer_norm", C, true),
      "vocab_projector.bias": { shape: [V], start: "zeros" },
    },
    head: (params, hidden) => {
      const inner = activation(linear(params.vocab_transform, hidden));
      const { weight } = params.distilbert.embeddings.word_embeddings;
      return linear(
        { weight, bias: params.vocab_projector.bias },
        layerNorm(params.vocab_layer_norm, inner, { eps: EPS }),
      );
    },
  });
}

/**
 * DistilBERT that classifies sequences, Hugging Face's DistilBertForSequenceClassification: `apply` gives logits [B, L].
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, tensor } from "cotan";
 * import { distilbertForSequenceClassification } from "cotan/nn";
 *
 * const model = distilbertForSequenceClassification({
 *   vocab_size: 10,
 *   dim: 8,
 *   hidden_dim: 16,
 *   n_layers: 1,
 *   n_heads: 2,
 *   num_labels: 3,
 * });
 * const params = model.init(random.key(0));
 * const ids = tensor(Int32Array.of(1, 2, 3), { shape: [1, 3] });
 * assertEquals(model.apply(params, ids).shape, [1, 3]);
 * ```
 */
export function distilbertForSequenceClassification(
  config: DistilbertConfig,
): Model<DistilbertSequenceClassifierParams> {
  const full = checkDistilbertConfig(config);
  const { dim: C, num_labels: L } = full;
  return distilbertEncoder<DistilbertSequenceClassifierParams>(full, {
    table: {
      ...distilbertTable(full),
      ...dense("pre_classifier", C, C, true),
      ...dense("classifier", L, C, true),
    },
    head: ({ pre_classifier, classifier }, hidden) =>
      linear(classifier, linear(pre_classifier, firstToken(hidden)).relu()),
  });
}

/**
 * DistilBERT that classifies tokens, Hugging Face's DistilBertForTokenClassification: `apply` gives logits [B, T, L].
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, tensor } from "cotan";
 * import { distilbertForTokenClassification } from "cotan/nn";
 *
 * const model = distilbertForTokenClassification({
 *   vocab_size: 10,
 *   dim: 8,
 *   hidden_dim: 16,
 *   n_layers: 1,
 *   n_heads: 2,
 *   num_labels: 5,
 * });
 * const params = model.init(random.key(0));
 * const ids = tensor(Int32Array.of(1, 2, 3), { shape: [1, 3] });
 * assertEquals(model.apply(params, ids).shape, [1, 3, 5]);
 * ```
 */
export function distilbertForTokenClassification(
  config: DistilbertConfig,
): Model<DistilbertTokenClassifierParams> {
  const full = checkDistilbertConfig(config);
  return distilbertEncoder<DistilbertTokenClassifierParams>(full, {
    table: {
      ...distilbertTable(full),
      ...dense("classifier", full.num_labels, full.dim, true),
    },
    head: ({ classifier }, hidden) => linear(classifier, hidden),
  });
}

/**
 * DistilBERT without a head, Hugging Face's DistilBertModel: `apply` gives the last hidden state [B, T, C], of which
 * `meanPool` and `firstToken` make a vector of each sequence.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, tensor } from "cotan";
 * import { distilbertModel, meanPool } from "cotan/nn";
 *
 * const model = distilbertModel({
 *   vocab_size: 10,
 *   dim: 8,
 *   hidden_dim: 16,
 *   n_layers: 1,
 *   n_heads: 2,
 * });
 * const params = model.init(random.key(0));
 * const ids = tensor(Int32Array.of(1, 2, 3), { shape: [1, 3] });
 * assertEquals(meanPool(model.apply(params, ids)).shape, [1, 8]);
 * ```
 */
export function distilbertModel(
  config: DistilbertConfig,
): Model<DistilbertModelParams> {
  const full = checkDistilbertConfig(config);
  return distilbertEncoder<DistilbertModelParams>(full, {
    table: distilbertTable(full),
    head: null,
  });
}
