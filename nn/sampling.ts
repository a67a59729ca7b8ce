/**
 * The choice of a token from logits, on the host.
 *
 * This module is browser compatible.
 *
 * @module
 */

/** How a token is drawn. */
export interface SamplingOptions {
  /** Logits are divided by it; 0, the default, takes the largest. */
  readonly temperature?: number;
  /** Draw among this many of the most likely tokens; all when absent. */
  readonly topK?: number;
  /** Draw among the fewest most likely tokens that together have this probability; 1 for all. */
  readonly topP?: number;
}

/** Checks the options; throws `RangeError`. */
export function checkSampling(options: SamplingOptions): void {
  const { temperature = 0, topK = 1, topP = 1 } = options;
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
}

/**
 * The index of a token. `uniform`, in [0, 1), decides where several may be drawn.
 *
 * First the temperature, then topK, then topP on what is left (Holtzman et al., arXiv 1904.09751), as Hugging Face's
 * generate. Of equal logits the first comes first. Throws `RangeError` where the largest logit is not finite.
 */
export function chooseToken(
  logits: ArrayLike<number>,
  options: SamplingOptions,
  uniform: number,
): number {
  const { temperature = 0, topK = Infinity, topP = 1 } = options;
  const best = argmax(logits);
  if (temperature === 0) return best;
  const top = logits[best]!;
  const weights = Float64Array.from(
    logits,
    (logit) => Math.exp((logit - top) / temperature),
  );
  keepLikely(weights, topK, topP);
  const target = uniform * weights.reduce((sum, w) => sum + w, 0);
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
  if (!Number.isFinite(logits[best])) {
    throw new RangeError(
      `Cannot choose a token: the logit of ${best} is ${logits[best]}`,
    );
  }
  return best;
}

/** Sets the weights of tokens to 0 that topK and topP leave out. */
function keepLikely(weights: Float64Array, topK: number, topP: number): void {
  let count = Math.min(topK, weights.length);
  if (count === weights.length && topP === 1) return;
  const sorted = weights.toSorted().reverse();
  if (topP < 1) {
    let total = 0;
    for (let i = 0; i < count; i++) total += sorted[i]!;
    let sum = 0, kept = 0;
    while (kept < count && sum < topP * total) sum += sorted[kept++]!;
    count = kept;
  }
  // The last one kept, and how many equal to it stay: the first ones.
  const last = sorted[count - 1]!;
  let equal = count - sorted.indexOf(last);
  for (let i = 0; i < weights.length; i++) {
    const w = weights[i]!;
    if (w > last || (w === last && equal-- > 0)) continue;
    weights[i] = 0;
  }
}
