/**
 * The choice of a token from logits, on the host: the same key gives the same tokens wherever the logits are equal.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { checkRepetition, type RepetitionOptions } from "./processors.ts";
import { largest } from "./ranking.ts";

/**
 * How a token is drawn. The options work in Hugging Face's order: repetitionPenalty, noRepeatNgram, temperature, topK,
 * topP, minP, each on what the ones before have left.
 */
export interface SamplingOptions extends RepetitionOptions {
  /** Logits are divided by it; 0, the default, takes the largest. */
  readonly temperature?: number;
  /** Draw among this many of the most likely tokens; all when absent. */
  readonly topK?: number;
  /** Draw among the fewest most likely tokens that together have this probability; 1 for all. */
  readonly topP?: number;
  /** Draw among tokens at least this many times as likely as the most likely one (arXiv 2407.01082); 0 for all. */
  readonly minP?: number;
}

/** Checks the options; throws `RangeError`. */
export function checkSampling(options: SamplingOptions): void {
  const { temperature = 0, topK = 1, topP = 1, minP = 0 } = options;
  const fail = (rule: string): never => {
    throw new RangeError(`Cannot sample with ${rule}`);
  };
  if (!(temperature >= 0 && temperature < Infinity)) {
    fail(
      `temperature ${temperature}: it must be finite and not negative; 0 takes the most likely`,
    );
  }
  if (!Number.isInteger(topK) || topK < 1) {
    fail(`topK ${topK}: it must be an integer of at least 1`);
  }
  if (!(topP > 0 && topP <= 1)) {
    fail(`topP ${topP}: it must be above 0 and at most 1`);
  }
  if (!(minP >= 0 && minP <= 1)) {
    fail(`minP ${minP}: it must be from 0 to 1`);
  }
  checkRepetition(options);
}

/**
 * The index of a token. `uniform`, in [0, 1), decides where several may be drawn.
 *
 * First the temperature, then topK, topP (Holtzman et al., arXiv 1904.09751) and minP, each on what is left. Of equal
 * logits the first comes first; Hugging Face's topK keeps all that equal the last. Throws `RangeError` where the largest
 * logit is not finite.
 */
export function chooseToken(
  logits: ArrayLike<number>,
  options: SamplingOptions,
  uniform: number,
): number {
  const { temperature = 0 } = options;
  const best = argmax(logits);
  if (temperature === 0) return best;
  const top = logits[best]!;
  const weights = new Float64Array(logits.length);
  for (let i = 0; i < weights.length; i++) {
    weights[i] = Math.exp((logits[i]! - top) / temperature);
  }
  keepLikely(weights, options);
  const target = uniform * total(weights);
  let sum = 0;
  for (let i = 0; i < weights.length; i++) {
    sum += weights[i]!;
    if (sum > target) return i;
  }
  return best;
}

/** Index of the first of the largest. */
function argmax(logits: ArrayLike<number>): number {
  let best = 0;
  for (let i = 0; i < logits.length; i++) {
    if (Number.isNaN(logits[i]!)) best = i;
    if (logits[i]! > logits[best]!) best = i;
  }
  return checkChosen(best, logits[best]!);
}

/** A token with its logit, which must be a finite number; throws `RangeError`. */
export function checkChosen(id: number, logit: number): number {
  if (Number.isFinite(logit)) return id;
  throw new RangeError(
    logit === -Infinity
      ? "Cannot choose a token: all logits are -Infinity, as where noRepeatNgram leaves no token"
      : `Cannot choose a token: the logit of ${id} is ${logit}`,
  );
}

/** Sets the weights of tokens to 0 that topK, topP and minP leave out. The largest weight is 1. */
function keepLikely(weights: Float64Array, options: SamplingOptions): void {
  const { topK = Infinity, topP = 1, minP = 0 } = options;
  if (topK < weights.length || topP < 1) {
    const kept = new Float64Array(weights.length);
    for (const i of likeliest(weights, topK, topP)) kept[i] = weights[i]!;
    weights.set(kept);
  }
  if (minP === 0) return;
  for (let i = 0; i < weights.length; i++) {
    if (weights[i]! < minP) weights[i] = 0;
  }
}

/** Indices of the topK largest weights; of these the fewest that together have topP of their sum. */
function likeliest(
  weights: Float64Array,
  topK: number,
  topP: number,
): number[] {
  const isCut = topK < weights.length;
  // Without topK, those below this have less than 1 - topP together, and need not be sorted.
  const rare = isCut ? 0 : (1 - topP) / 2 * total(weights) / weights.length;
  const ranked = largest(weights, Math.min(topK, weights.length), rare);
  if (topP === 1) return ranked;
  const wanted = topP *
    (isCut ? total(ranked.map((i) => weights[i]!)) : total(weights));
  let reached = 0, count = 0;
  while (count < ranked.length && reached < wanted) {
    reached += weights[ranked[count++]!]!;
  }
  return ranked.slice(0, count);
}

function total(weights: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < weights.length; i++) sum += weights[i]!;
  return sum;
}
