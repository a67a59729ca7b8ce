/**
 * Generation of text: prompt and continuation as text, piece by piece.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Tree } from "../../core/mod.ts";
import type { Tokenizer } from "../checkpoint/tokenizer.ts";
import type { Model } from "../models/mod.ts";
import { generate, type GenerateOptions } from "./generate.ts";
import { textOf, untilStop } from "./pieces.ts";

/** What `generateText` needs of a tokenizer. */
export type TextTokenizer = Pick<Tokenizer, "encode" | "decode" | "eosId">;

/** Options of `generateText`. */
export interface GenerateTextOptions extends Omit<GenerateOptions, "stop"> {
  /** Texts and ids that end the generation, beside the tokenizer's end of text. None of them is given out. */
  readonly stop?: string | number | readonly (string | number)[];
}

/**
 * Continues a prompt, a text or its ids, in pieces of text as the tokens come.
 *
 * A piece consists of whole characters: what a token leaves incomplete waits for the next. A stop text may span tokens;
 * neither it nor what follows is given out. Throws as `generate` does.
 *
 * @example
 * ```ts
 * import { assert } from "@std/assert";
 * import { random } from "cotan";
 * import { generateText, llama } from "cotan/nn";
 *
 * const model = llama({
 *   vocab_size: 26,
 *   hidden_size: 8,
 *   intermediate_size: 16,
 *   num_hidden_layers: 1,
 *   num_attention_heads: 2,
 * });
 * const params = model.init(random.key(0));
 * const letters = {
 *   encode: (text: string) => Array.from(text, (c) => c.charCodeAt(0) - 97),
 *   decode: (ids: Iterable<number>) => Array.from(ids, (id) => String.fromCharCode(97 + id)).join(""),
 *   eosId: null,
 * };
 * const options = { maxNewTokens: 5, stop: "zz" };
 * const pieces = await Array.fromAsync(generateText(model, params, letters, "ab", options));
 * assert(/^[a-z]{1,5}$/.test(pieces.join("")));
 * ```
 */
export function generateText<P extends Tree>(
  model: Model<P>,
  params: P,
  tokenizer: TextTokenizer,
  prompt: string | ArrayLike<number>,
  options: GenerateTextOptions,
): AsyncGenerator<string, void, undefined> {
  const { eosId } = tokenizer;
  const stop = [options.stop ?? []].flat();
  const texts = stop.filter((s) => typeof s === "string");
  const ends = stop.filter((s) => typeof s === "number");
  if (texts.includes("")) {
    throw new RangeError("Cannot stop at an empty text: every text has it");
  }
  if (eosId !== null) ends.push(eosId);
  const ids = typeof prompt === "string"
    ? tokenizer.encode(prompt)
    : Array.from(prompt);
  const stream = generate(model, params, ids, { ...options, stop: ends });
  async function* run(): AsyncGenerator<string, void, undefined> {
    const decoded = textOf((ids) => tokenizer.decode(ids), ids);
    const passing = untilStop(texts);
    for await (const id of stream) {
      if (ends.includes(id)) break;
      const piece = passing.push(decoded.push(id));
      if (piece) yield piece;
      if (passing.hasEnded()) return;
    }
    const last = passing.push(decoded.rest()) + passing.rest();
    if (last) yield last;
  }
  return run();
}
