/**
 * What the models of BERT and RoBERTa have before their heads: embeddings and blocks, under Hugging Face's names.
 *
 * Letters: B batch, T time, C channels, P rows of the table of positions, V vocabulary.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { iota, split, type Tensor, type Tree, where } from "../../core/mod.ts";
import { type Embedding, embedding } from "../embedding.ts";
import type { Linear } from "../linear.ts";
import { layerNorm, type Norm } from "../norm.ts";
import type { Pooler } from "../pooling.ts";
import { activationOf } from "./activations.ts";
import type { FullBertConfig } from "./bert_config.ts";
import { encoder, type EncoderBlock, type EncoderParts } from "./encoder.ts";
import type { Model } from "./model.ts";
import {
  blocks,
  dense,
  gain,
  type ParameterTable,
  table,
} from "./parameters.ts";

/** Parameters of a block, under Hugging Face's names. */
export type BertLayer = {
  /** Attention, its projection back, and the norm after it. */
  readonly attention: {
    /** Projections to heads, [C, C] each. */
    readonly self: {
      readonly query: Linear;
      readonly key: Linear;
      readonly value: Linear;
    };
    /** [C, C], and the norm of the sum. */
    readonly output: { readonly dense: Linear; readonly LayerNorm: Norm };
  };
  /** [intermediate, C]. */
  readonly intermediate: { readonly dense: Linear };
  /** [C, intermediate], and the norm of the sum. */
  readonly output: { readonly dense: Linear; readonly LayerNorm: Norm };
};

/** Parameters of the model without a head, under Hugging Face's names. */
export type BertBody = {
  /** What a token is first. */
  readonly embeddings: {
    /** [V, C]. */
    readonly word_embeddings: Embedding;
    /** [P, C]. */
    readonly position_embeddings: Embedding;
    /** [type_vocab_size, C]. */
    readonly token_type_embeddings: Embedding;
    /** Of the sum of the three. */
    readonly LayerNorm: Norm;
  };
  /** The blocks. */
  readonly encoder: { readonly layer: readonly BertLayer[] };
};

/** The body with a pooler. */
export type PooledBertBody = BertBody & {
  /** Of the first token. */
  readonly pooler: Pooler;
};

/** Shape and first value of each parameter of the body. */
export function bodyTable(
  name: "bert" | "roberta",
  config: FullBertConfig,
): ParameterTable {
  const {
    vocab_size: V,
    hidden_size: C,
    intermediate_size: inner,
    max_position_embeddings: P,
  } = config;
  const embeddings = `${name}.embeddings`;
  const layer = (i: number): ParameterTable => {
    const at = `${name}.encoder.layer.${i}`, attention = `${at}.attention`;
    return {
      ...dense(`${attention}.self.query`, C, C, true),
      ...dense(`${attention}.self.key`, C, C, true),
      ...dense(`${attention}.self.value`, C, C, true),
      ...dense(`${attention}.output.dense`, C, C, true),
      ...gain(`${attention}.output.LayerNorm`, C, true),
      ...dense(`${at}.intermediate.dense`, inner, C, true),
      ...dense(`${at}.output.dense`, C, inner, true),
      ...gain(`${at}.output.LayerNorm`, C, true),
    };
  };
  return {
    ...table(`${embeddings}.word_embeddings`, V, C),
    ...table(`${embeddings}.position_embeddings`, P, C),
    ...table(`${embeddings}.token_type_embeddings`, config.type_vocab_size, C),
    ...gain(`${embeddings}.LayerNorm`, C, true),
    ...blocks(config.num_hidden_layers, layer),
  };
}

/** The same with the pooler. */
export function pooledTable(
  name: "bert" | "roberta",
  config: FullBertConfig,
): ParameterTable {
  const { hidden_size: C } = config;
  return {
    ...bodyTable(name, config),
    ...dense(`${name}.pooler.dense`, C, C, true),
  };
}

/** Where a model of BERT's body differs from others. */
export interface BertParts<P extends Tree>
  extends Pick<EncoderParts<P>, "table" | "limit" | "head"> {
  /** The body among the parameters. */
  body(params: P): BertBody;
  /** Rows of the table of positions for ids: i32 [T] or [B, T]. */
  positions(ids: Tensor): Tensor;
}

/** A model with BERT's body. */
export function bertEncoder<P extends Tree>(
  config: FullBertConfig,
  { body, positions, ...parts }: BertParts<P>,
): Model<P> {
  const { layer_norm_eps: eps } = config;
  return encoder<P>({
    ...parts,
    config,
    block: {
      heads: config.num_attention_heads,
      eps,
      activation: activationOf(config.hidden_act),
    },
    depth: { field: "num_hidden_layers", count: config.num_hidden_layers },
    embed: (params, ids, tokenTypes) => {
      const p = body(params).embeddings;
      const sum = embedding(p.word_embeddings, ids)
        .add(embedding(p.position_embeddings, positions(ids)))
        .add(segment(p.token_type_embeddings, tokenTypes));
      return layerNorm(p.LayerNorm, sum, { eps });
    },
    blocks: (params) => body(params).encoder.layer.map(blockOf),
  });
}

/** The vector of each token's type, [B, T, C]; without types that of type 0, [C]. */
function segment(table: Embedding, types: Tensor | null): Tensor {
  const count = types ? table.weight.shape[0]! : 1;
  const [first, ...rest] = split(
    embedding(table, iota([count])),
    new Array(count).fill(1),
  ).map((row) => row.squeeze(0));
  if (!types) return first!;
  // A choice of few rows and no gather: its gradient is a sum over a mask, that of a gather goes from token to token.
  const type = types.unsqueeze(-1);
  return rest.reduce((x, row, i) => where(type.gt(i), row, x), first!);
}

function blockOf(
  { attention, intermediate, output }: BertLayer,
): EncoderBlock {
  return {
    ...attention.self,
    out: attention.output.dense,
    attentionNorm: attention.output.LayerNorm,
    up: intermediate.dense,
    down: output.dense,
    outputNorm: output.LayerNorm,
  };
}
