/**
 * The configuration of BERT, as Hugging Face's config.json gives it; RoBERTa's has the same fields.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { type RawConfig, readConfig } from "./config.ts";
import { checkEncoder, type LabelFields } from "./encoder_config.ts";
import { countLabels } from "./labels.ts";

/** Fields of config.json that shape a BERT; defaults are those of Hugging Face's BertConfig. */
export type BertConfig = {
  /** Number of ids. */
  readonly vocab_size: number;
  /** Channels. */
  readonly hidden_size: number;
  /** Channels inside a feed-forward layer. */
  readonly intermediate_size: number;
  /** Blocks. */
  readonly num_hidden_layers: number;
  /** Heads of attention. */
  readonly num_attention_heads: number;
  /** Rows of the table of positions; 512. */
  readonly max_position_embeddings?: number;
  /** Kinds of segments; 2. */
  readonly type_vocab_size?: number;
  /** "gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "quick_gelu", "relu", "silu", "swish" or "tanh"; "gelu". */
  readonly hidden_act?: string;
  /** Added to the variance in norms; 1e-12. */
  readonly layer_norm_eps?: number;
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
export type FullBertConfig =
  & BertConfig
  & LabelFields
  & {
    readonly [
      K in
        | "max_position_embeddings"
        | "type_vocab_size"
        | "layer_norm_eps"
        | "initializer_range"
    ]: number;
  }
  & { readonly hidden_act: string };

/** Checks a configuration and fills in the defaults; throws `FormatError` for what is missing, wrong or not supported. */
export function checkBertConfig(
  config: RawConfig,
  kind: "BERT" | "RoBERTa",
): FullBertConfig {
  const read = readConfig(config, kind);
  checkEncoder(read, {
    channels: "hidden_size",
    heads: "num_attention_heads",
    activation: "hidden_act",
  });
  return {
    ...config,
    num_labels: countLabels(config, kind),
    vocab_size: read.integer("vocab_size"),
    hidden_size: read.integer("hidden_size"),
    intermediate_size: read.integer("intermediate_size"),
    num_hidden_layers: read.blocks("num_hidden_layers"),
    num_attention_heads: read.integer("num_attention_heads"),
    max_position_embeddings: read.integer("max_position_embeddings", 512),
    type_vocab_size: read.integer("type_vocab_size", 2),
    hidden_act: (config.hidden_act as string | null) ?? "gelu",
    layer_norm_eps: read.positive("layer_norm_eps", 1e-12),
    initializer_range: read.positive("initializer_range", 0.02),
  };
}
