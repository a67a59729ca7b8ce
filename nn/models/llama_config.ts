/**
 * The configuration of Llama, as Hugging Face's config.json gives it.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { type ConfigReader, type RawConfig, readConfig } from "./config.ts";

/** Fields of config.json that shape a Llama; defaults are those of Hugging Face's LlamaConfig. */
export type LlamaConfig = {
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
  /** Channels of a head; hidden_size / num_attention_heads. */
  readonly head_dim?: number;
  /** Largest number of positions; 2048. */
  readonly max_position_embeddings?: number;
  /** Added to the mean square in norms; 1e-6. */
  readonly rms_norm_eps?: number;
  /** Base of the rotary embedding; 10000. */
  readonly rope_theta?: number;
  /** Whether the head is the embedding's table; false. */
  readonly tie_word_embeddings?: boolean;
  /** Whether the projections of attention have biases; false. */
  readonly attention_bias?: boolean;
  /** Whether the feed-forward layers have biases; false. */
  readonly mlp_bias?: boolean;
  /** Deviation of random weights; 0.02. */
  readonly initializer_range?: number;
  /** Only "silu" is supported. */
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
  };

/** Checks a configuration and fills in the defaults; throws `FormatError` for what is missing, wrong or not supported. */
export function checkLlamaConfig(config: RawConfig): FullLlamaConfig {
  const read = readConfig(config, "Llama");
  read.expect("hidden_act", ["silu", "swish"]);
  read.expect("partial_rotary_factor", [1]);
  read.expect("quantization_config", []);
  const hidden = read.integer("hidden_size");
  const heads = read.integer("num_attention_heads");
  const keyHeads = read.integer("num_key_value_heads", heads);
  if (heads % keyHeads !== 0) {
    read.fail(
      `num_attention_heads ${heads} does not divide by num_key_value_heads ${keyHeads}`,
    );
  }
  const size = read.positive("head_dim", hidden / heads);
  if (size % 2 !== 0) {
    read.fail(`the head size is ${size}, and must be an even integer`);
  }
  return {
    ...config,
    vocab_size: read.integer("vocab_size"),
    hidden_size: hidden,
    intermediate_size: read.integer("intermediate_size"),
    num_hidden_layers: read.integer("num_hidden_layers"),
    num_attention_heads: heads,
    num_key_value_heads: keyHeads,
    head_dim: size,
    max_position_embeddings: read.integer("max_position_embeddings", 2048),
    rms_norm_eps: read.positive("rms_norm_eps", 1e-6),
    rope_theta: ropeBase(config, read),
    initializer_range: read.positive("initializer_range", 0.02),
    tie_word_embeddings: read.flag("tie_word_embeddings", false),
    attention_bias: read.flag("attention_bias", false),
    mlp_bias: read.flag("mlp_bias", false),
  };
}

/** The base, from rope_theta or, since transformers 5, from rope_parameters. Scaled kinds are refused. */
function ropeBase(config: RawConfig, read: ConfigReader): number {
  for (const name of ["rope_scaling", "rope_parameters"]) {
    const scaling = config[name] as RawConfig | null | undefined;
    if (!scaling) continue;
    const kind = scaling.rope_type ?? scaling.type ?? "default";
    if (kind !== "default") {
      read.fail(
        `${name} is ${
          JSON.stringify(scaling)
        }, and only the plain rotary embedding is supported`,
      );
    }
  }
  const parameters = config.rope_parameters as RawConfig | null | undefined;
  const base = parameters?.rope_theta as number | undefined;
  return read.positive("rope_theta", base ?? 10000);
}
