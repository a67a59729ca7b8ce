/**
 * Small encoders for tests: one of each family and head.
 *
 * @module
 */

import { random, type Tensor, type Tree, tree } from "cotan";
import { type Model, modelFromConfig } from "cotan/nn";

/** BERT's and RoBERTa's fields. */
export const bertConfig = {
  vocab_size: 11,
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  max_position_embeddings: 12,
  initializer_range: 0.5,
  num_labels: 3,
};

/** DistilBERT's fields, for the same sizes. */
export const distilbertConfig = {
  vocab_size: 11,
  dim: 8,
  hidden_dim: 12,
  n_layers: 2,
  n_heads: 2,
  max_position_embeddings: 12,
  initializer_range: 0.5,
  num_labels: 3,
};

/** What follows the name of a family in that of a class. */
export const heads = [
  "ForMaskedLM",
  "ForSequenceClassification",
  "ForTokenClassification",
  "Model",
] as const;

/** An encoder of a class. */
export function encoderOf(
  family: "Bert" | "Roberta" | "DistilBert",
  head: typeof heads[number],
  changes: Record<string, unknown> = {},
): Model {
  const config = family === "DistilBert" ? distilbertConfig : bertConfig;
  return modelFromConfig({
    ...config,
    ...changes,
    architectures: [family + head],
  });
}

/** Parameters none of which is 0 or 1, so that each counts. */
export function paramsOf<P extends Tree>(model: Model<P>, seed = 1): P {
  const key = random.key(seed);
  let i = 0;
  return tree.map(
    (x: Tensor) =>
      x.add(random.normal(random.foldIn(key, i++), x.shape).mul(0.5)),
    model.init(key),
  );
}
