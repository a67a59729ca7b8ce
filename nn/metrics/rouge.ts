/**
 * ROUGE-L.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { pairTexts, type References } from "./text.ts";

/**
 * ROUGE-L, from 0 to 1 (Lin 2004): the F-measure of the longest common subsequence of words, the largest over the
 * references of a text, and the mean over texts. As Google's rouge_score without stemming: words are runs of a to z and
 * digits, of lower-cased text.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { rougeL } from "cotan/nn";
 *
 * assertAlmostEquals(rougeL(["testing two"], ["testing one two"]), 4 / 5);
 * ```
 */
export function rougeL(
  hypotheses: readonly string[],
  references: References,
): number {
  const scores = pairTexts(hypotheses, references).map((pair) => {
    const found = tokenize(pair.text);
    return Math.max(
      ...pair.references.map((text) => fMeasure(found, tokenize(text))),
    );
  });
  return scores.reduce((sum, score) => sum + score, 0) / scores.length;
}

/** Runs of letters and digits. */
function tokenize(text: string): string[] {
  return text.toLowerCase().match(/[a-z0-9]+/g) ?? [];
}

/** 2 PR / (P + R) of precision L / |a| and recall L / |b|. */
function fMeasure(a: readonly string[], b: readonly string[]): number {
  return a.length === 0 || b.length === 0
    ? 0
    : 2 * commonLength(a, b) / (a.length + b.length);
}

/** Length of the longest common subsequence. */
function commonLength(a: readonly string[], b: readonly string[]): number {
  // best[j]: of the part of a so far and the first j of b.
  let best = Array<number>(b.length + 1).fill(0);
  for (const word of a) {
    const next = [0];
    b.forEach((other, j) =>
      next.push(
        word === other ? best[j]! + 1 : Math.max(next[j]!, best[j + 1]!),
      )
    );
    best = next;
  }
  return best[b.length]!;
}
