/**
 * The configuration of DistilBERT, as Hugging Face's config.json gives it.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { type RawConfig, readConfig } from "./config.ts";
import { checkEncoder, type LabelFields } from "./encoder_config.ts";
import { countLabels } from "./labels.ts";

/** Fields of config.json that shape a DistilBERT; defaults are those of Hugging Face's DistilBertConfig. */
export type DistilbertConfig = {
  /** Number of ids. */
  readonly vocab_size: number;
  /** Channels. */
  readonly dim: number;
  /** Channels inside a feed-forward layer. */
  readonly hidden_dim: number;
  /** Blocks. */
  readonly n_layers: number;
  /** Heads of attention. */
  readonly n_heads: number;
  /** Largest number of positions; 512. */
  readonly max_position_embeddings?: number;
  /** "gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "quick_gelu", "relu", "silu", "swish" or "tanh"; "gelu". */
  readonly activation?: string;
  /** Whether positions are sines that do not learn; only false is supported. */
  readonly sinusoidal_pos_embds?: boolean;
  /** Deviation of random weights; 0.02. */
  readonly initializer_range?: number;
  /** Outputs of a classifier; as many as id2label has, or 2. */
  readonly num_labels?: number;
  /** Names of the labels. */
  readonly id2label?: Readonly<Record<string, string>>;
  /** What a classifier learns, for `classificationLoss`. */
  readonly problem_type?: string | null;
  readonly [key: string]: unknown;
};

/** A checked configuration: every field is there. */
export type FullDistilbertConfig =
  & DistilbertConfig
  & LabelFields
  & {
    readonly [K in "max_position_embeddings" | "initializer_range"]: number;
  }
  & { readonly activation: string };

/** Checks a configuration and fills in the defaults; throws `FormatError` for what is missing, wrong or not supported. */
export function checkDistilbertConfig(config: RawConfig): FullDistilbertConfig {
  const read = readConfig(config, "DistilBERT");
  read.expect("sinusoidal_pos_embds", [false]);
  checkEncoder(read, {
    channels: "dim",
    heads: "n_heads",
    activation: "activation",
  });
  return {
    ...config,
    num_labels: countLabels(config, "DistilBERT"),
    vocab_size: read.integer("vocab_size"),
    dim: read.integer("dim"),
    hidden_dim: read.integer("hidden_dim"),
    n_layers: read.blocks("n_layers"),
    n_heads: read.integer("n_heads"),
    max_position_embeddings: read.integer("max_position_embeddings", 512),
    activation: (config.activation as string | null) ?? "gelu",
    initializer_range: read.positive("initializer_range", 0.02),
  };
}
