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
import type { FullLlamaConfig } from "./llama_config.ts";
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

/** Parameters of Llama, under Hugging Face's names. */
export type LlamaParams = {
  /** The decoder. */
  readonly model: {
    /** [V, C]. */
    readonly embed_tokens: Embedding;
    /** The blocks. */
    readonly layers: readonly LlamaLayer[];
    /** After the last block. */
    readonly norm: Norm;
  };
  /** [V, C]; absent where the head is tied to the embedding. */
  readonly lm_head?: Linear;
};

/** Shape and first value of each parameter, by path. */
export function llamaTable(config: FullLlamaConfig): ParameterTable {
  const {
    vocab_size: V,
    hidden_size: C,
    intermediate_size: inner,
    attention_bias,
    mlp_bias,
  } = config;
  const queries = config.num_attention_heads * config.head_dim;
  const keys = config.num_key_value_heads * config.head_dim;
  const layer = (i: number): ParameterTable => {
    const at = `model.layers.${i}`, attn = `${at}.self_attn`, mlp = `${at}.mlp`;
    return {
      ...gain(`${at}.input_layernorm`, C, false),
      ...dense(`${attn}.q_proj`, queries, C, attention_bias),
      ...dense(`${attn}.k_proj`, keys, C, attention_bias),
      ...dense(`${attn}.v_proj`, keys, C, attention_bias),
      ...dense(`${attn}.o_proj`, C, queries, attention_bias),
      ...gain(`${at}.post_attention_layernorm`, C, false),
      ...dense(`${mlp}.gate_proj`, inner, C, mlp_bias),
      ...dense(`${mlp}.up_proj`, inner, C, mlp_bias),
      ...dense(`${mlp}.down_proj`, C, inner, mlp_bias),
    };
  };
  return {
    ...table("model.embed_tokens", V, C),
    ...blocks(config.num_hidden_layers, layer),
    ...gain("model.norm", C, false),
    ...(config.tie_word_embeddings ? {} : dense("lm_head", V, C, false)),
  };
}
