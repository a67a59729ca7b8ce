/**
 * Training of a byte-level BPE tokenizer (Sennrich et al., 2016; the byte alphabet and the word pattern are GPT-2's).
 *
 * This module is browser compatible.
 *
 * @module
 */

/** A trained tokenizer: what `tokenizer.json` holds of it. */
export interface Bpe {
  /** Ids of the tokens: first the special ones, then the 256 bytes, then one for each merge. */
  readonly vocab: Readonly<Record<string, number>>;
  /** Pairs of tokens that are joined, in order. */
  readonly merges: readonly (readonly [left: string, right: string])[];
  /** Special tokens. */
  readonly special: readonly string[];
}

/** How a tokenizer is trained. */
export interface BpeOptions {
  /** Number of tokens, the special ones and the 256 bytes included. */
  readonly vocabSize: number;
  /** Special tokens, which get the first ids; `<s>` and `</s>` when absent. */
  readonly special?: readonly string[];
}

/** GPT-2's words: a contraction, or letters, digits or signs with at most one space before them, or spaces. */
const WORD =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** A word as tokens, and how often it occurs. */
interface Word {
  tokens: string[];
  readonly count: number;
}

/**
 * Trains a tokenizer: joins the most frequent pair of tokens until the vocabulary is full or no pair occurs twice. Pairs
 * that occur equally often are taken in alphabetical order, so the result depends on the texts alone.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { trainBpe } from "cotan/nn";
 *
 * const { merges } = trainBpe(["low lower lowest"], { vocabSize: 261 });
 * assertEquals(merges, [["l", "o"], ["lo", "w"], ["low", "e"]]);
 * ```
 */
export function trainBpe(texts: Iterable<string>, options: BpeOptions): Bpe {
  const { vocabSize, special = ["<s>", "</s>"] } = options;
  const alphabet = [...BYTES].sort();
  const smallest = special.length + alphabet.length;
  if (!Number.isInteger(vocabSize) || vocabSize < smallest) {
    throw new RangeError(
      `Cannot train a tokenizer of ${vocabSize} tokens: the 256 bytes and ${special.length} special tokens alone are ${smallest}`,
    );
  }
  // A set, since two pairs may spell one token, which then has one id.
  const tokens = new Set([...special, ...alphabet]);
  const merges: [string, string][] = [];
  const counts = new PairCounts(wordsOf(texts));
  while (tokens.size < vocabSize) {
    const pair = counts.mostFrequent();
    if (!pair) break;
    counts.join(pair);
    merges.push(pair);
    tokens.add(pair.join(""));
  }
  const vocab = Object.fromEntries(
    [...tokens].map((token, id) => [token, id]),
  );
  return { vocab, merges, special };
}

/** The character that stands for each byte: itself where it is printable, one above 255 where it is not. */
const BYTES: readonly string[] = Array.from({ length: 256 }, (_, byte) => byte)
  .map((byte) => {
    const isPrintable = (b: number): boolean =>
      b >= 33 && b <= 126 || b >= 161 && b <= 172 || b >= 174 && b <= 255;
    const before = Array.from({ length: byte }, (_, b) => b)
      .filter((b) => !isPrintable(b)).length;
    return String.fromCharCode(isPrintable(byte) ? byte : 256 + before);
  });

function wordsOf(texts: Iterable<string>): Word[] {
  const counts = new Map<string, number>();
  for (const text of texts) {
    for (const [word] of text.matchAll(WORD)) {
      counts.set(word, (counts.get(word) ?? 0) + 1);
    }
  }
  const encoder = new TextEncoder();
  return [...counts].map(([word, count]) => ({
    tokens: Array.from(encoder.encode(word), (byte) => BYTES[byte]!),
    count,
  }));
}

/** How often each pair of neighbours occurs, kept up to date while pairs are joined. */
class PairCounts {
  /** Counts by the pair, joined by a space, which is no token's character. */
  readonly #counts = new Map<string, number>();
  /** Words that have the pair, or had it once. */
  readonly #words = new Map<string, Set<Word>>();

  constructor(words: readonly Word[]) {
    for (const word of words) this.#add(word, 1);
  }

  /** The pair to join next, or null where none occurs twice. */
  mostFrequent(): [string, string] | null {
    let best = "", most = 1;
    for (const [pair, count] of this.#counts) {
      if (count > most || count === most && count > 1 && pair < best) {
        [best, most] = [pair, count];
      }
    }
    return best === "" ? null : best.split(" ") as [string, string];
  }

  /** Joins a pair in every word that has it. */
  join([left, right]: [string, string]): void {
    const pair = `${left} ${right}`;
    for (const word of this.#words.get(pair) ?? []) {
      this.#add(word, -1);
      word.tokens = joined(word.tokens, left, right);
      this.#add(word, 1);
    }
    this.#counts.delete(pair);
    this.#words.delete(pair);
  }

  #add(word: Word, sign: number): void {
    for (let i = 1; i < word.tokens.length; i++) {
      const pair = `${word.tokens[i - 1]} ${word.tokens[i]}`;
      this.#counts.set(
        pair,
        (this.#counts.get(pair) ?? 0) + sign * word.count,
      );
      let words = this.#words.get(pair);
      if (!words) this.#words.set(pair, words = new Set());
      if (sign > 0) words.add(word);
    }
  }
}

function joined(
  tokens: readonly string[],
  left: string,
  right: string,
): string[] {
  const out: string[] = [];
  for (let i = 0; i < tokens.length; i++) {
    const joins = tokens[i] === left && tokens[i + 1] === right;
    out.push(joins ? left + right : tokens[i]!);
    if (joins) i++;
  }
  return out;
}
