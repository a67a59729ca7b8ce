/**
 * The configuration of GPT-2, as Hugging Face's config.json gives it.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { activationNames } from "./activations.ts";
import { type RawConfig, readConfig } from "./config.ts";

/** Fields of config.json that shape a GPT-2; defaults are those of Hugging Face's GPT2Config. */
export type GPT2Config = {
  /** Number of ids. */
  readonly vocab_size: number;
  /** Largest number of positions; 1024. */
  readonly n_positions?: number;
  /** Channels. */
  readonly n_embd: number;
  /** Blocks. */
  readonly n_layer: number;
  /** Heads. */
  readonly n_head: number;
  /** Channels inside a feed-forward layer; four times n_embd. */
  readonly n_inner?: number | null;
  /** Activation of the feed-forward layers; "gelu_new". */
  readonly activation_function?: string;
  /** Added to the variance in norms; 1e-5. */
  readonly layer_norm_epsilon?: number;
  /** Whether scores are divided by the root of the head size; true. */
  readonly scale_attn_weights?: boolean;
  /** Whether scores of the i-th block are divided by i + 1 too; false. */
  readonly scale_attn_by_inverse_layer_idx?: boolean;
  /** Whether the head is the embedding's table; true. */
  readonly tie_word_embeddings?: boolean;
  /** Deviation of random weights; 0.02. That of weights into the residual is smaller by √(2 · n_layer). */
  readonly initializer_range?: number;
  readonly [key: string]: unknown;
};

/** A checked configuration: every field is there, and max_position_embeddings is n_positions. */
export type FullGPT2Config =
  & Omit<GPT2Config, "n_inner">
  & {
    readonly [
      K in
        | "vocab_size"
        | "n_positions"
        | "max_position_embeddings"
        | "n_embd"
        | "n_layer"
        | "n_head"
        | "n_inner"
        | "layer_norm_epsilon"
        | "initializer_range"
    ]: number;
  }
  & {
    readonly [
      K in
        | "scale_attn_weights"
        | "scale_attn_by_inverse_layer_idx"
        | "tie_word_embeddings"
    ]: boolean;
  }
  & { readonly activation_function: string };

/** Checks a configuration and fills in the defaults; throws `FormatError` for what is missing, wrong or not supported. */
export function checkGPT2Config(config: RawConfig): FullGPT2Config {
  const read = readConfig(config, "GPT-2");
  read.expect("activation_function", activationNames);
  read.expect("add_cross_attention", [false]);
  read.expect("quantization_config", []);
  const channels = read.integer("n_embd"), heads = read.integer("n_head");
  if (channels % heads !== 0) {
    read.fail(`n_embd ${channels} does not divide by n_head ${heads}`);
  }
  const positions = read.integer("n_positions", 1024);
  return {
    ...config,
    vocab_size: read.integer("vocab_size"),
    n_positions: positions,
    max_position_embeddings: positions,
    n_embd: channels,
    n_layer: read.blocks("n_layer"),
    n_head: heads,
    n_inner: read.integer("n_inner", 4 * channels),
    activation_function: String(config.activation_function ?? "gelu_new"),
    layer_norm_epsilon: read.positive("layer_norm_epsilon", 1e-5),
    scale_attn_weights: read.flag("scale_attn_weights", true),
    scale_attn_by_inverse_layer_idx: read.flag(
      "scale_attn_by_inverse_layer_idx",
      false,
    ),
    tie_word_embeddings: read.flag("tie_word_embeddings", true),
    initializer_range: read.positive("initializer_range", 0.02),
  };
}
