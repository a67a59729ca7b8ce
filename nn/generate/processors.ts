/**
 * What is changed in scores because of the tokens so far: repeated tokens and repeated sequences.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Data } from "../../core/mod.ts";

/** How repetition is held back. Prompt and new tokens count alike. */
export interface RepetitionOptions {
  /**
   * A token that has been there has its logit divided by it where that is positive, and multiplied where it is negative
   * (CTRL, arXiv 1909.05858, section 4.1, which divides only; the rest as Hugging Face's); 1, the default, changes nothing.
   */
  readonly repetitionPenalty?: number;
  /** No sequence of so many tokens comes twice; 0, the default, lets all come again. */
  readonly noRepeatNgram?: number;
}

/** Checks the options; throws `RangeError`. */
export function checkRepetition(options: RepetitionOptions): void {
  const { repetitionPenalty = 1, noRepeatNgram = 0 } = options;
  if (!(repetitionPenalty > 0 && repetitionPenalty < Infinity)) {
    throw new RangeError(
      `Cannot sample with repetitionPenalty ${repetitionPenalty}: it must be finite and above 0; 1 changes nothing`,
    );
  }
  if (!Number.isInteger(noRepeatNgram) || noRepeatNgram < 0) {
    throw new RangeError(
      `Cannot sample with noRepeatNgram ${noRepeatNgram}: it must be a non-negative integer; 0 changes nothing`,
    );
  }
}

/** Whether scores depend on the tokens so far. */
export function holdsBack(options: RepetitionOptions): boolean {
  const { repetitionPenalty = 1, noRepeatNgram = 0 } = options;
  return repetitionPenalty !== 1 || noRepeatNgram > 0;
}

/** Scores of the next token after `ids`: first the penalty, then -Infinity for what would repeat a sequence. */
export function holdBack(
  scores: Data,
  ids: readonly number[],
  options: RepetitionOptions,
): Data {
  const { repetitionPenalty = 1, noRepeatNgram = 0 } = options;
  if (!holdsBack(options)) return scores;
  const held = scores.slice();
  if (repetitionPenalty !== 1) {
    for (const id of new Set(ids)) {
      const score = held[id]!;
      held[id] = score < 0
        ? score * repetitionPenalty
        : score / repetitionPenalty;
    }
  }
  if (noRepeatNgram > 0) {
    for (const id of repeating(ids, noRepeatNgram)) held[id] = -Infinity;
  }
  return held;
}

/** Tokens that have followed the last n - 1 before. */
function repeating(ids: readonly number[], n: number): number[] {
  const start = ids.length - n + 1;
  if (start < 0) return [];
  const last = ids.slice(start);
  return ids.filter((_, i) =>
    i >= n - 1 && last.every((id, j) => ids[i - n + 1 + j] === id)
  );
}
