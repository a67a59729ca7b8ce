/**
 * Rows of token ids and labels, all of one length, from examples.
 *
 * T is the length of a row.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Example } from "./examples.ts";

/** Label of a position that has no part in the loss, as in PyTorch. */
export const IGNORED = -100;

/** What rows need of a tokenizer. */
export interface RowTokenizer {
  /** Ids of a text; with `addSpecial` false, without begin and end tokens. */
  encode(
    text: string,
    options: { readonly addSpecial: boolean },
  ): ArrayLike<number>;
  /** Id of the begin token, or null. */
  readonly bosId: number | null;
  /** Id of the end token, or null. */
  readonly eosId: number | null;
}

/** Input ids of T positions, and the id that each should predict. */
export interface Row {
  /** T ids, padded at the end. */
  readonly ids: Int32Array;
  /** T labels: the next id, or -100 where it does not count. */
  readonly labels: Int32Array;
}

/** Rows of one length, made when asked for. */
export interface Rows {
  /** Number of rows. */
  readonly length: number;
  /** T, the positions of a row. */
  readonly seq: number;
  /** A row. */
  at(index: number): Row;
}

/** How examples become rows. */
export interface RowOptions {
  /** T, the positions of a row. */
  readonly seq: number;
  /** Whether only completions count in the loss; prompts count too when absent. */
  readonly completionOnly?: boolean;
  /** What is put between prompt and completion; " =>" when absent. */
  readonly separator?: string;
}

/**
 * Rows of examples. A prompt with its completion is a row: begin, prompt, separator, completion, end, cut at T positions.
 * Texts follow each other, each between begin and end, and are cut into windows of T positions.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { toRows } from "cotan/nn";
 *
 * const letters = {
 *   encode: (text: string) => [...text].map((c) => c.charCodeAt(0)),
 *   bosId: 1,
 *   eosId: 2,
 * };
 * const rows = toRows([{ text: "abc" }], letters, { seq: 6 });
 * assertEquals([...rows.at(0).ids], [1, 97, 98, 99, 2, 2]);
 * assertEquals([...rows.at(0).labels], [97, 98, 99, 2, -100, -100]);
 * ```
 */
export function toRows(
  examples: readonly Example[],
  tokenizer: RowTokenizer,
  options: RowOptions,
): Rows {
  const { seq } = options;
  if (!Number.isInteger(seq) || seq < 1) {
    throw new RangeError(
      `Cannot make rows of ${seq} positions: the length must be a whole number of at least 1`,
    );
  }
  const pairs = examples.filter((example) => "prompt" in example);
  const stream = Int32Array.from(
    examples.flatMap((example) =>
      "text" in example ? framed(tokenizer, example.text) : []
    ),
  );
  // The last token of a window is only predicted: it opens the next window.
  const windows = Math.ceil(Math.max(stream.length - 1, 0) / seq);
  const padding = tokenizer.eosId ?? 0;
  return {
    length: pairs.length + windows,
    seq,
    at: (index) => {
      const pair = pairs[index];
      if (pair) {
        const { ids, learnFrom } = pairIds(pair, tokenizer, options);
        return toRow(ids, learnFrom, seq, padding);
      }
      const start = (index - pairs.length) * seq;
      return toRow(stream.slice(start, start + seq + 1), 0, seq, padding);
    },
  };
}

/**
 * The ids of a prompt alone: begin, prompt, separator. What generation continues, after training on such rows.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { promptIds } from "cotan/nn";
 *
 * const letters = {
 *   encode: (text: string) => [...text].map((c) => c.charCodeAt(0)),
 *   bosId: 1,
 *   eosId: 2,
 * };
 * assertEquals(promptIds("a", letters, { separator: "=" }), [1, 97, 61]);
 * ```
 */
export function promptIds(
  prompt: string,
  tokenizer: RowTokenizer,
  options: Pick<RowOptions, "separator"> = {},
): number[] {
  const { separator = " =>" } = options;
  return [...begin(tokenizer), ...encode(tokenizer, prompt + separator)];
}

/**
 * The positions that each prompt with its completion takes, if it is not cut.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { rowLengths } from "cotan/nn";
 *
 * const letters = {
 *   encode: (text: string) => [...text].map((c) => c.charCodeAt(0)),
 *   bosId: 1,
 *   eosId: 2,
 * };
 * const examples = [{ prompt: "a", completion: "b" }];
 * assertEquals(rowLengths(examples, letters), [7]);
 * ```
 */
export function rowLengths(
  examples: readonly Example[],
  tokenizer: RowTokenizer,
  options: Pick<RowOptions, "separator"> = {},
): number[] {
  return examples.filter((example) => "prompt" in example).map((pair) =>
    pairIds(pair, tokenizer, options).ids.length - 1
  );
}

function pairIds(
  { prompt, completion }: Extract<Example, { prompt: string }>,
  tokenizer: RowTokenizer,
  options: Omit<RowOptions, "seq">,
): { ids: number[]; learnFrom: number } {
  const { completionOnly = false, separator = " =>" } = options;
  const opening = promptIds(prompt, tokenizer, { separator });
  // Encoded whole, so that the space before the completion becomes what the tokenizer makes of it within a text.
  const ids = framed(tokenizer, `${prompt}${separator} ${completion}`);
  let shared = 0;
  while (shared < opening.length && ids[shared] === opening[shared]) shared++;
  return { ids, learnFrom: completionOnly ? shared : 0 };
}

function framed(tokenizer: RowTokenizer, text: string): number[] {
  const end = tokenizer.eosId === null ? [] : [tokenizer.eosId];
  return [...begin(tokenizer), ...encode(tokenizer, text), ...end];
}

function begin(tokenizer: RowTokenizer): number[] {
  return tokenizer.bosId === null ? [] : [tokenizer.bosId];
}

function encode(tokenizer: RowTokenizer, text: string): number[] {
  return Array.from(tokenizer.encode(text, { addSpecial: false }));
}

/** Ids in the first T positions and what follows each as its label; labels that stand before `learnFrom` do not count. */
function toRow(
  all: ArrayLike<number>,
  learnFrom: number,
  seq: number,
  padding: number,
): Row {
  const ids = new Int32Array(seq).fill(padding);
  const labels = new Int32Array(seq).fill(IGNORED);
  for (let t = 0; t < seq && t < all.length; t++) {
    ids[t] = all[t]!;
    if (t + 1 < all.length && t + 1 >= learnFrom) labels[t] = all[t + 1]!;
  }
  return { ids, labels };
}
