/**
 * The parameters of GPT-2: their tree, and their shapes by path.
 *
 * Letters: C channels, V vocabulary.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Adapters } from "../adapter.ts";
import type { Conv1D } from "../conv1d.ts";
import type { Embedding } from "../embedding.ts";
import type { Norm } from "../norm.ts";
import type { WithHead } from "./decoder.ts";
import type { WithScore } from "./decoder_classifier.ts";
import type { FullGPT2Config } from "./gpt2_config.ts";
import {
  blocks,
  conv,
  gain,
  type ParameterTable,
  table,
} from "./parameters.ts";

/** Parameters of a block, under Hugging Face's names. */
export type GPT2Layer = {
  /** Before attention. */
  readonly ln_1: Norm;
  /** Attention. */
  readonly attn: {
    /** Queries, keys and values: [C, 3·C]. */
    readonly c_attn: Conv1D<Adapters>;
    /** [C, C]. */
    readonly c_proj: Conv1D<Adapters>;
  };
  /** Before the feed-forward layer. */
  readonly ln_2: Norm;
  /** The feed-forward layer. */
  readonly mlp: {
    /** [C, n_inner]. */
    readonly c_fc: Conv1D<Adapters>;
    /** [n_inner, C]. */
    readonly c_proj: Conv1D<Adapters>;
  };
};

/** Parameters of GPT-2 without a head, under Hugging Face's names. */
export type GPT2BaseParams = {
  /** The decoder. */
  readonly transformer: {
    /** Tokens: [V, C]. */
    readonly wte: Embedding;
    /** Positions: [n_positions, C]. */
    readonly wpe: Embedding;
    /** The blocks. */
    readonly h: readonly GPT2Layer[];
    /** After the last block. */
    readonly ln_f: Norm;
  };
};

/** Parameters of GPT-2 as a language model; lm_head is there where the head is not tied to the embedding. */
export type GPT2Params = WithHead<GPT2BaseParams>;

/** Parameters of GPT-2 as a classifier of sequences. */
export type GPT2ClassifierParams = WithScore<GPT2BaseParams>;

/** Shape and first value of each parameter, by path. */
export function gpt2Table(config: FullGPT2Config): ParameterTable {
  const { n_embd: C, n_inner: inner, n_layer } = config;
  // What 2·n_layer random layers add to the residual then has the variance of one (GPT-2's report, section 2.3).
  const residual = 1 / Math.sqrt(2 * n_layer);
  const layer = (i: number): ParameterTable => {
    const at = `transformer.h.${i}`;
    return {
      ...gain(`${at}.ln_1`, C, true),
      ...conv(`${at}.attn.c_attn`, C, 3 * C),
      ...conv(`${at}.attn.c_proj`, C, C, residual),
      ...gain(`${at}.ln_2`, C, true),
      ...conv(`${at}.mlp.c_fc`, C, inner),
      ...conv(`${at}.mlp.c_proj`, inner, C, residual),
    };
  };
  return {
    ...table("transformer.wte", config.vocab_size, C),
    ...table("transformer.wpe", config.n_positions, C),
    ...blocks(n_layer, layer),
    ...gain("transformer.ln_f", C, true),
  };
}
