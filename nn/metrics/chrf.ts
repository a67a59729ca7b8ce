/**
 * chrF.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  countRuns,
  countShared,
  pairTexts,
  type References,
  words,
} from "./text.ts";

/** Longest run of characters. */
const ORDER = 6;

/** The square of beta, 2: how much more recall counts than precision. */
const WEIGHT = 4;

/** Runs of one order: of the text, of the reference, and common to both. */
interface Counts {
  readonly found: number;
  readonly wanted: number;
  readonly shared: number;
}

/**
 * chrF of a corpus, from 0 to 100 (Popović 2015): the F-measure, with beta 2, of runs of up to six characters without
 * white space, case kept, as sacrebleu computes it by default: counts are summed over texts, each against the reference
 * that it is most like, and precision and recall are means over the orders that occur.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { chrf } from "cotan/nn";
 *
 * assertEquals(chrf(["a b c"], ["abc"]), 100);
 * assertEquals(chrf(["aa"], ["ab"]), 25);
 * ```
 */
export function chrf(
  hypotheses: readonly string[],
  references: References,
): number {
  const all = pairTexts(hypotheses, references).map((pair) => {
    const found = characters(pair.text);
    return pair.references.map((text) => compare(found, characters(text)))
      .reduce((best, counts) => score(counts) > score(best) ? counts : best);
  });
  return score(all.reduce((sums, counts) =>
    sums.map((sum, i) => ({
      found: sum.found + counts[i]!.found,
      wanted: sum.wanted + counts[i]!.wanted,
      shared: sum.shared + counts[i]!.shared,
    }))
  ));
}

/** Characters that are no white space. */
function characters(text: string): string[] {
  return [...words(text).join("")];
}

/** Counts of each order. */
function compare(a: readonly string[], b: readonly string[]): Counts[] {
  return Array.from({ length: ORDER }, (_, i) => {
    const wanted = Math.max(0, b.length - i);
    return {
      // As sacrebleu does: an order that the reference lacks is none of the text's.
      found: wanted && Math.max(0, a.length - i),
      wanted,
      shared: countShared(countRuns(a, i + 1), countRuns(b, i + 1)),
    };
  });
}

/** (1 + β²) PR / (β² P + R) of the means of precision and recall. */
function score(counts: readonly Counts[]): number {
  const used = counts.filter(({ found, wanted }) => found > 0 && wanted > 0);
  const mean = (of: (c: Counts) => number): number =>
    used.reduce((sum, c) => sum + of(c), 0) / used.length;
  const precision = mean((c) => c.shared / c.found);
  const recall = mean((c) => c.shared / c.wanted);
  return precision > 0
    ? 100 * (1 + WEIGHT) * precision * recall / (WEIGHT * precision + recall)
    : 0;
}
