/**
 * The kin of Llama: decoders of the same build that differ in defaults and in a few parts.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { FormatError } from "../../core/mod.ts";
import type { RawConfig } from "./config.ts";

/** What sets one of the kin apart; defaults are those of Hugging Face's configuration class. */
export interface LlamaFamily {
  /** Its name in errors. */
  readonly name: string;
  /** Default of max_position_embeddings. */
  readonly positions: number;
  /** Default of rope_theta. */
  readonly base: number;
  /** Default of tie_word_embeddings. */
  readonly isTied: boolean;
  /** Default of head_dim where it is not hidden_size / num_attention_heads. */
  readonly headSize?: number;
  /** Default of sliding_window where the field is absent, which null is not. */
  readonly window: number | null;
  /**
   * Which blocks have the window: none, all, where use_sliding_window says so those from max_window_layers on, or
   * those without a rotation.
   */
  readonly windowed: "none" | "all" | "upper" | "unrotated";
  /** Whether the projections to queries, keys and values have biases, whatever attention_bias says. */
  readonly hasInputBiases: boolean;
  /** Whether queries and keys are normed head by head. */
  readonly hasHeadNorms: boolean;
  /** Whether no_rope_layers tells which blocks rotate; where it is absent, each fourth does not. */
  readonly skipsRotations: boolean;
}

const llama: LlamaFamily = {
  name: "Llama",
  positions: 2048,
  base: 10000,
  isTied: false,
  window: null,
  windowed: "none",
  hasInputBiases: false,
  hasHeadNorms: false,
  skipsRotations: false,
};

const mistral: LlamaFamily = {
  ...llama,
  name: "Mistral",
  positions: 131072,
  window: 4096,
  windowed: "all",
};

const qwen2: LlamaFamily = {
  ...llama,
  name: "Qwen2",
  positions: 32768,
  window: 4096,
  windowed: "upper",
  hasInputBiases: true,
};

const qwen3: LlamaFamily = {
  ...qwen2,
  name: "Qwen3",
  headSize: 128,
  hasInputBiases: false,
  hasHeadNorms: true,
};

const smollm3: LlamaFamily = {
  ...llama,
  name: "SmolLM3",
  positions: 32768,
  base: 2000000,
  isTied: true,
  windowed: "unrotated",
  skipsRotations: true,
};

/** The kin by model_type. */
export const llamaFamilies: Readonly<Record<string, LlamaFamily>> = {
  llama,
  mistral,
  qwen2,
  qwen3,
  smollm3,
};

/** Which of the kin a configuration is of: by the first architecture, else by model_type; Llama where it has neither. */
export function llamaFamily(
  { architectures, model_type }: RawConfig,
): LlamaFamily {
  const name = Array.isArray(architectures) ? architectures[0] : undefined;
  const kind = String(name ?? model_type ?? "llama");
  const type = kind.toLowerCase().replace(/(?:for[a-z]+|model)$/, "");
  if (Object.hasOwn(llamaFamilies, type)) return llamaFamilies[type]!;
  throw new FormatError(
    `Cannot build a Llama model of ${kind}: there are ${
      Object.keys(llamaFamilies).join(", ")
    }`,
  );
}
