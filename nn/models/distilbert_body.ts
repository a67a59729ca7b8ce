/**
 * What the models of DistilBERT have before their heads: embeddings and blocks, under Hugging Face's names.
 *
 * Letters: C channels, P positions, V vocabulary.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { iota } from "../../core/mod.ts";
import { type Embedding, embedding } from "../embedding.ts";
import type { Linear } from "../linear.ts";
import { layerNorm, type Norm } from "../norm.ts";
import { activationOf } from "./activations.ts";
import type { FullDistilbertConfig } from "./distilbert_config.ts";
import { encoder, type EncoderBlock, type EncoderParts } from "./encoder.ts";
import type { Model } from "./model.ts";
import {
  blocks,
  dense,
  gain,
  type ParameterTable,
  table,
} from "./parameters.ts";

/** Added to the variance in every norm: no field tells it. */
export const EPS = 1e-12;

/** Parameters of a block, under Hugging Face's names. */
export type DistilbertLayer = {
  /** Projections of attention, [C, C] each. */
  readonly attention: {
    readonly q_lin: Linear;
    readonly k_lin: Linear;
    readonly v_lin: Linear;
    readonly out_lin: Linear;
  };
  /** After attention is added. */
  readonly sa_layer_norm: Norm;
  /** [hidden_dim, C], and [C, hidden_dim]. */
  readonly ffn: { readonly lin1: Linear; readonly lin2: Linear };
  /** After the feed-forward layer is added. */
  readonly output_layer_norm: Norm;
};

/** Parameters of the model without a head, under Hugging Face's names. */
export type DistilbertBody = {
  /** What a token is first. */
  readonly embeddings: {
    /** [V, C]. */
    readonly word_embeddings: Embedding;
    /** [P, C]. */
    readonly position_embeddings: Embedding;
    /** Of the sum of both. */
    readonly LayerNorm: Norm;
  };
  /** The blocks. */
  readonly transformer: { readonly layer: readonly DistilbertLayer[] };
};

/** Parameters of DistilBERT without a head, under the names of Hugging Face's classes that have one. */
export type DistilbertModelParams = {
  /** The encoder. */
  readonly distilbert: DistilbertBody;
};

/** Shape and first value of each parameter of the body. */
export function distilbertTable(
  config: FullDistilbertConfig,
): ParameterTable {
  const { vocab_size: V, dim: C, hidden_dim: inner } = config;
  const { max_position_embeddings: P } = config;
  const embeddings = "distilbert.embeddings";
  const layer = (i: number): ParameterTable => {
    const at = `distilbert.transformer.layer.${i}`,
      attention = `${at}.attention`;
    return {
      ...dense(`${attention}.q_lin`, C, C, true),
      ...dense(`${attention}.k_lin`, C, C, true),
      ...dense(`${attention}.v_lin`, C, C, true),
      ...dense(`${attention}.out_lin`, C, C, true),
      ...gain(`${at}.sa_layer_norm`, C, true),
      ...dense(`${at}.ffn.lin1`, inner, C, true),
      ...dense(`${at}.ffn.lin2`, C, inner, true),
      ...gain(`${at}.output_layer_norm`, C, true),
    };
  };
  return {
    ...table(`${embeddings}.word_embeddings`, V, C),
    ...table(`${embeddings}.position_embeddings`, P, C),
    ...gain(`${embeddings}.LayerNorm`, C, true),
    ...blocks(config.n_layers, layer),
  };
}

/** A model with DistilBERT's body. */
export function distilbertEncoder<P extends DistilbertModelParams>(
  config: FullDistilbertConfig,
  parts: Pick<EncoderParts<P>, "table" | "head">,
): Model<P> {
  return encoder<P>({
    ...parts,
    config,
    block: {
      heads: config.n_heads,
      eps: EPS,
      activation: activationOf(config.activation),
    },
    depth: { field: "n_layers", count: config.n_layers },
    limit: {
      field: "max_position_embeddings",
      count: config.max_position_embeddings,
    },
    embed: (params, ids, tokenTypes) => {
      if (tokenTypes) {
        throw new TypeError(
          "Cannot apply the model with tokenTypes: a DistilBERT does not tell segments apart",
        );
      }
      const p = params.distilbert.embeddings;
      const sum = embedding(p.word_embeddings, ids)
        .add(embedding(p.position_embeddings, iota([ids.shape[1]!])));
      return layerNorm(p.LayerNorm, sum, { eps: EPS });
    },
    blocks: (params) => params.distilbert.transformer.layer.map(blockOf),
  });
}

function blockOf(
  { attention, sa_layer_norm, ffn, output_layer_norm }: DistilbertLayer,
): EncoderBlock {
  return {
    query: attention.q_lin,
    key: attention.k_lin,
    value: attention.v_lin,
    out: attention.out_lin,
    attentionNorm: sa_layer_norm,
    up: ffn.lin1,
    down: ffn.lin2,
    outputNorm: output_layer_norm,
  };
}
