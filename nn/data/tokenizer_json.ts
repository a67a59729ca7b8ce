/**
 * A trained BPE as `tokenizer.json` and `tokenizer_config.json`, in Hugging Face's format.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Bpe } from "./bpe.ts";

/** A value of a JSON file. */
export type Json =
  | string
  | number
  | boolean
  | null
  | readonly Json[]
  | { readonly [key: string]: Json };

/**
 * The contents of `tokenizer.json` for a byte-level BPE, which puts the first special token before each text.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { Tokenizer } from "@huggingface/tokenizers";
 * import { tokenizerConfigJson, tokenizerJson, trainBpe } from "cotan/nn";
 *
 * const bpe = trainBpe(["low lower lowest"], { vocabSize: 261 });
 * const tokenizer = new Tokenizer(tokenizerJson(bpe), tokenizerConfigJson(bpe));
 * assertEquals(tokenizer.encode("lower").tokens, ["<s>", "lowe", "r"]);
 * ```
 */
export function tokenizerJson(bpe: Bpe): { readonly [key: string]: Json } {
  const begin = bpe.special[0];
  const sequence: Json = { Sequence: { id: "A", type_id: 0 } };
  const second: Json = { Sequence: { id: "B", type_id: 1 } };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: bpe.special.map((content) => ({
      id: bpe.vocab[content]!,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: {
      type: "ByteLevel",
      add_prefix_space: false,
      trim_offsets: true,
      use_regex: true,
    },
    post_processor: begin === undefined ? null : {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: begin, type_id: 0 } }, sequence],
      pair: [
        { SpecialToken: { id: begin, type_id: 0 } },
        sequence,
        { SpecialToken: { id: begin, type_id: 1 } },
        second,
      ],
      special_tokens: {
        [begin]: { id: begin, ids: [bpe.vocab[begin]!], tokens: [begin] },
      },
    },
    decoder: {
      type: "ByteLevel",
      add_prefix_space: false,
      trim_offsets: true,
      use_regex: true,
    },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: bpe.vocab,
      merges: bpe.merges,
    },
  };
}

/** The contents of `tokenizer_config.json`: the first special token begins a text, the second ends it. */
export function tokenizerConfigJson(
  bpe: Bpe,
  options: { readonly context?: number } = {},
): { readonly [key: string]: Json } {
  const [begin, end] = bpe.special;
  return {
    tokenizer_class: "PreTrainedTokenizerFast",
    ...(begin !== undefined && { bos_token: begin }),
    ...(end !== undefined && { eos_token: end }),
    ...(options.context !== undefined && { model_max_length: options.context }),
    clean_up_tokenization_spaces: false,
  };
}
