/**
 * The configuration of Llama and its kin, as Hugging Face's config.json gives it.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { RopeScaling } from "../rope.ts";
import { activationNames } from "./activations.ts";
import { type RawConfig, readConfig } from "./config.ts";
import { llamaFamily } from "./llama_families.ts";
import { type BlockKind, blockKinds } from "./llama_blocks.ts";
import { readRope } from "./rope_config.ts";

/** Fields of config.json that shape a Llama; defaults are those of Hugging Face's class for the architecture. */
export type LlamaConfig = {
  /** Which of the kin it is, unless `architectures` tells: "llama", "mistral", "qwen2", "qwen3" or "smollm3"; "llama". */
  readonly model_type?: string;
  /** Number of ids. */
  readonly vocab_size: number;
  /** Channels. */
  readonly hidden_size: number;
  /** Channels inside a feed-forward layer. */
  readonly intermediate_size: number;
  /** Blocks. */
  readonly num_hidden_layers: number;
  /** Query heads. */
  readonly num_attention_heads: number;
  /** Key and value heads; as many as query heads. */
  readonly num_key_value_heads?: number;
  /** Channels of a head; hidden_size / num_attention_heads, and 128 in Qwen3. */
  readonly head_dim?: number;
  /** Largest number of positions; 2048 in Llama. */
  readonly max_position_embeddings?: number;
  /** Added to the mean square in norms; 1e-6. */
  readonly rms_norm_eps?: number;
  /** Base of the rotary embedding; 10000. */
  readonly rope_theta?: number;
  /** How the rotary embedding is scaled: rope_type "default", "linear" or "llama3" with its factors; not at all. */
  readonly rope_scaling?: RawConfig | null;
  /** The same with rope_theta in it, as transformers 5 writes it. */
  readonly rope_parameters?: RawConfig | null;
  /** How many tokens back a token sees, itself included, in the blocks that have a window; all. */
  readonly sliding_window?: number | null;
  /** Whether the head is the embedding's table; false. */
  readonly tie_word_embeddings?: boolean;
  /** Whether the projections of attention have biases; false. Those of Qwen2 have, but for the last. */
  readonly attention_bias?: boolean;
  /** Whether the feed-forward layers have biases; false. */
  readonly mlp_bias?: boolean;
  /** Deviation of random weights; 0.02. */
  readonly initializer_range?: number;
  /** Activation of the gates; "silu". */
  readonly hidden_act?: string;
  readonly [key: string]: unknown;
};

/** A checked configuration: every field is there. */
export type FullLlamaConfig =
  & LlamaConfig
  & {
    readonly [
      K in
        | "num_key_value_heads"
        | "head_dim"
        | "max_position_embeddings"
        | "rms_norm_eps"
        | "rope_theta"
        | "initializer_range"
    ]: number;
  }
  & {
    readonly [
      K in "tie_word_embeddings" | "attention_bias" | "mlp_bias"
    ]: boolean;
  }
  & { readonly hidden_act: string };

/** What a configuration comes to. */
export interface LlamaSpec {
  /** What the model is called in errors. */
  readonly name: string;
  /** The configuration with defaults filled in. */
  readonly config: FullLlamaConfig;
  /** Which projections have biases. */
  readonly biases: {
    readonly qkv: boolean;
    readonly out: boolean;
    readonly mlp: boolean;
  };
  /** Whether queries and keys are normed head by head. */
  readonly hasHeadNorms: boolean;
  /** How the rotary embedding is scaled. */
  readonly scaling: RopeScaling | null;
  /** What differs from block to block. */
  readonly blocks: readonly BlockKind[];
}

/** Checks a configuration and fills in the defaults; throws `FormatError` for what is missing, wrong or not supported. */
export function checkLlamaConfig(config: RawConfig): LlamaSpec {
  const family = llamaFamily(config);
  const read = readConfig(config, family.name);
  read.expect("hidden_act", activationNames);
  read.expect("quantization_config", []);
  const hidden = read.integer("hidden_size");
  const heads = read.integer("num_attention_heads");
  const keyHeads = read.integer("num_key_value_heads", heads);
  if (heads % keyHeads !== 0) {
    read.fail(
      `num_attention_heads ${heads} does not divide by num_key_value_heads ${keyHeads}`,
    );
  }
  const size = read.positive("head_dim", family.headSize ?? hidden / heads);
  if (size % 2 !== 0) {
    read.fail(`the head size is ${size}, and must be an even integer`);
  }
  const { base, scaling } = readRope(config, family.name, family.base);
  const blocks = read.blocks("num_hidden_layers");
  const hasBias = read.flag("attention_bias", false);
  const full = {
    ...config,
    vocab_size: read.integer("vocab_size"),
    hidden_size: hidden,
    intermediate_size: read.integer("intermediate_size"),
    num_hidden_layers: blocks,
    num_attention_heads: heads,
    num_key_value_heads: keyHeads,
    head_dim: size,
    max_position_embeddings: read.integer(
      "max_position_embeddings",
      family.positions,
    ),
    rms_norm_eps: read.positive("rms_norm_eps", 1e-6),
    rope_theta: base,
    hidden_act: String(config.hidden_act ?? "silu"),
    initializer_range: read.positive("initializer_range", 0.02),
    tie_word_embeddings: read.flag("tie_word_embeddings", family.isTied),
    attention_bias: hasBias,
    mlp_bias: read.flag("mlp_bias", false),
  };
  return {
    name: family.name,
    config: full,
    biases: {
      qkv: hasBias || family.hasInputBiases,
      out: hasBias && !family.hasInputBiases,
      mlp: full.mlp_bias,
    },
    hasHeadNorms: family.hasHeadNorms,
    scaling,
    blocks: blockKinds(config, read, family, blocks),
  };
}
