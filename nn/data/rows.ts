/**
 * Rows of token ids and labels, of one length or of a few, from examples.
 *
 * T is the length of a row.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Example } from "./examples.ts";
import {
  framed,
  IGNORED,
  type RowTokenizer,
  type Sequence,
  type SequenceOptions,
  toSequence,
} from "./sequences.ts";

/** Input ids of T positions, and the id that each should predict. */
export interface Row {
  /** T ids, padded at the end. */
  readonly ids: Int32Array;
  /** T labels: the next id, or -100 where it does not count. */
  readonly labels: Int32Array;
  /** Positions that are no padding; all when absent. */
  readonly tokens?: number;
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
export interface RowOptions extends SequenceOptions {
  /** T, the positions of a row. */
  readonly seq: number;
  /** Whether pairs and conversations share rows, as many as fit, one after another; each has a row when absent. */
  readonly pack?: boolean;
}

/**
 * Rows of examples. A prompt with its completion is a row: begin, prompt, separator, completion, end, cut at T positions;
 * and so is a conversation. Texts follow each other, each between begin and end, and are cut into windows of T positions.
 *
 * Packed examples see those before them in their row, which models of language bear well; nothing is learned across
 * their borders. Throws `FormatError` for conversations without a chat template.
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
  const { seq, pack = false } = options;
  checkLength(seq);
  const own = examples.filter((example) => !("text" in example));
  const sequence = (example: Example) =>
    toSequence(example, tokenizer, options);
  const windows = textWindows(examples, tokenizer, seq);
  const padding = tokenizer.eosId ?? 0;
  const packed = pack ? packedIn(own.map(sequence), seq) : null;
  const count = packed ? packed.length : own.length;
  return {
    length: count + windows.length,
    seq,
    at: (index) => {
      const found = index < count
        ? packed?.[index] ?? sequence(own[index]!)
        : windows.at(index - count);
      return padded(found, seq, padding);
    },
  };
}

/**
 * Rows of a few lengths, ascending: each example stands among those of the first length that holds it, or is cut to the
 * last. So little of a batch is padding, and a compiled step is needed for each length only. Texts are windows of
 * the last length. Lengths that no example has are left out.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { toBuckets } from "cotan/nn";
 *
 * const letters = {
 *   encode: (text: string) => [...text].map((c) => c.charCodeAt(0)),
 *   bosId: 1,
 *   eosId: 2,
 * };
 * const examples = ["b", "bcdefgh", "c"].map((completion) => ({ prompt: "a", completion }));
 * const buckets = toBuckets(examples, letters, { lengths: [8, 16, 32] });
 * assertEquals(buckets.map(({ seq, length }) => [seq, length]), [[8, 2], [16, 1]]);
 * ```
 */
export function toBuckets(
  examples: readonly Example[],
  tokenizer: RowTokenizer,
  options: SequenceOptions & { readonly lengths: readonly number[] },
): Rows[] {
  const { lengths, ...rest } = options;
  lengths.forEach(checkLength);
  if (lengths.length === 0 || lengths.some((d, i) => d <= lengths[i - 1]!)) {
    throw new RangeError(
      `Cannot make rows of the lengths [${
        lengths.join(", ")
      }]: they must ascend`,
    );
  }
  const last = lengths.at(-1)!;
  const groups = new Map<number, Example[]>(lengths.map((d) => [d, []]));
  for (const example of examples) {
    // The last id is only predicted.
    const size = "text" in example
      ? last
      : toSequence(example, tokenizer, rest).ids.length - 1;
    groups.get(lengths.find((d) => size <= d) ?? last)!.push(example);
  }
  return [...groups].filter(([, group]) => group.length > 0)
    .map(([seq, group]) => toRows(group, tokenizer, { ...rest, seq }));
}

/**
 * The positions that each prompt with its completion takes, or each conversation, if it is not cut.
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
  options: SequenceOptions = {},
): number[] {
  return examples.filter((example) => !("text" in example)).map((example) =>
    toSequence(example, tokenizer, options).ids.length - 1
  );
}

function checkLength(seq: number): void {
  if (Number.isInteger(seq) && seq >= 1) return;
  throw new RangeError(
    `Cannot make rows of ${seq} positions: the length must be a whole number of at least 1`,
  );
}

/** Windows of the texts one after another. */
function textWindows(
  examples: readonly Example[],
  tokenizer: RowTokenizer,
  seq: number,
): { readonly length: number; at(index: number): Sequence } {
  const stream = Int32Array.from(
    examples.flatMap((example) =>
      "text" in example ? framed(tokenizer, example.text) : []
    ),
  );
  return {
    // The last token of a window is only predicted: it opens the next window.
    length: Math.ceil(Math.max(stream.length - 1, 0) / seq),
    at: (index) => {
      const ids = [...stream.subarray(index * seq, (index + 1) * seq + 1)];
      return { ids, labels: ids.slice(1) };
    },
  };
}

/** Sequences one after another, as many in each row as fit in T positions. */
function packedIn(sequences: readonly Sequence[], seq: number): Sequence[] {
  const rows: { ids: number[]; labels: number[] }[] = [];
  for (const { ids, labels } of sequences) {
    let row = rows.at(-1);
    if (!row || row.ids.length + ids.length > seq) {
      rows.push(row = { ids: [], labels: [] });
    }
    row.ids.push(...ids);
    row.labels.push(...labels);
  }
  return rows;
}

/** The first T positions of a sequence, padded. */
function padded(
  { ids, labels }: Sequence,
  seq: number,
  padding: number,
): Required<Row> {
  const row = {
    ids: new Int32Array(seq).fill(padding),
    labels: new Int32Array(seq).fill(IGNORED),
    tokens: Math.min(ids.length, seq),
  };
  row.ids.set(ids.slice(0, seq));
  row.labels.set(labels.slice(0, seq));
  return row;
}
