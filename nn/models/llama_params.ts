/**
 * The parameters of Llama: their tree, and their shapes by path.
 *
 * Letters: C channels, H heads, K key and value heads, D head size, V vocabulary.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Embedding } from "../embedding.ts";
import type { Linear } from "../linear.ts";
import type { Norm } from "../norm.ts";
import type { WithHead } from "./decoder.ts";
import type { WithScore } from "./decoder_classifier.ts";
import type { LlamaSpec } from "./llama_config.ts";
import {
  blocks,
  dense,
  gain,
  type ParameterTable,
  table,
} from "./parameters.ts";

/** Parameters of a block, under Hugging Face's names. */
export type LlamaLayer = {
  /** Before attention. */
  readonly input_layernorm: Norm;
  /** Projections of attention. */
  readonly self_attn: {
    /** [H·D, C]. */
    readonly q_proj: Linear;
    /** [K·D, C]. */
    readonly k_proj: Linear;
    /** [K·D, C]. */
    readonly v_proj: Linear;
    /** [C, H·D]. */
    readonly o_proj: Linear;
    /** Of the queries of each head, [D]; in Qwen3. */
    readonly q_norm?: Norm;
    /** Of the keys of each head, [D]; in Qwen3. */
    readonly k_norm?: Norm;
  };
  /** Before the feed-forward layer. */
  readonly post_attention_layernorm: Norm;
  /** The feed-forward layer. */
  readonly mlp: {
    /** [intermediate, C]. */
    readonly gate_proj: Linear;
    /** [intermediate, C]. */
    readonly up_proj: Linear;
    /** [C, intermediate]. */
    readonly down_proj: Linear;
  };
};

/** Parameters of a Llama without a head, under Hugging Face's names. */
export type LlamaBaseParams = {
  /** The decoder. */
  readonly model: {
    /** [V, C]. */
    readonly embed_tokens: Embedding;
    /** The blocks. */
    readonly layers: readonly LlamaLayer[];
    /** After the last block. */
    readonly norm: Norm;
  };
};

/** Parameters of a Llama as a language model; lm_head is there where the head is not tied to the embedding. */
export type LlamaParams = WithHead<LlamaBaseParams>;

/** Parameters of a Llama as a classifier of sequences. */
export type LlamaClassifierParams = WithScore<LlamaBaseParams>;

/** Shape and first value of each parameter, by path. */
export function llamaTable(
  { config, biases, hasHeadNorms }: LlamaSpec,
): ParameterTable {
  const {
    vocab_size: V,
    hidden_size: C,
    intermediate_size: inner,
    head_dim: D,
  } = config;
  const queries = config.num_attention_heads * D;
  const keys = config.num_key_value_heads * D;
  const layer = (i: number): ParameterTable => {
    const at = `model.layers.${i}`, attn = `${at}.self_attn`, mlp = `${at}.mlp`;
    return {
      ...gain(`${at}.input_layernorm`, C, false),
      ...dense(`${attn}.q_proj`, queries, C, biases.qkv),
      ...dense(`${attn}.k_proj`, keys, C, biases.qkv),
      ...dense(`${attn}.v_proj`, keys, C, biases.qkv),
      ...dense(`${attn}.o_proj`, C, queries, biases.out),
      ...(hasHeadNorms && {
        ...gain(`${attn}.q_norm`, D, false),
        ...gain(`${attn}.k_norm`, D, false),
      }),
      ...gain(`${at}.post_attention_layernorm`, C, false),
      ...dense(`${mlp}.gate_proj`, inner, C, biases.mlp),
      ...dense(`${mlp}.up_proj`, inner, C, biases.mlp),
      ...dense(`${mlp}.down_proj`, C, inner, biases.mlp),
    };
  };
  return {
    ...table("model.embed_tokens", V, C),
    ...blocks(config.num_hidden_layers, layer),
    ...gain("model.norm", C, false),
  };
}
