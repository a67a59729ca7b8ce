/**
 * Perplexity.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { checkPairs } from "./pairs.ts";

/**
 * `exp(Σ losses / Σ counts)`: losses are negative log-likelihoods in nats, each summed over as many tokens as its count
 * says. A mean of the perplexities of batches would be another number.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { perplexity } from "cotan/nn";
 *
 * assertAlmostEquals(perplexity([3 * Math.log(8), Math.log(8)], [3, 1]), 8);
 * ```
 */
export function perplexity(
  losses: ArrayLike<number>,
  counts: ArrayLike<number>,
): number {
  checkPairs(losses, counts, ["losses", "counts"]);
  const count = sum(counts);
  if (!(count > 0)) {
    throw new RangeError(
      `Cannot take the perplexity of ${count} tokens: there must be some`,
    );
  }
  return Math.exp(sum(losses) / count);
}

function sum(values: ArrayLike<number>): number {
  return Array.from(values).reduce((total, value) => total + value, 0);
}
