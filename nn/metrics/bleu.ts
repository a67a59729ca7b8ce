/**
 * BLEU.
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

/** Longest run of words. */
const ORDER = 4;

/**
 * BLEU of a corpus with runs of up to four words, from 0 to 100 (Papineni et al. 2002), as sacrebleu computes it by
 * default: tokens of mteval-v13a, case kept, each text against all its references with the length of the closest, and
 * the n-th order without a match taken to have 1 / 2ⁿ matches (smoothing "exp").
 *
 * A corpus without a run of four words, or without one common word, has 0.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { bleu } from "cotan/nn";
 *
 * const texts = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."];
 * const references = [
 *   ["The dog bit the man.", "The dog had bit the man."],
 *   ["It was not unexpected.", "No one was surprised."],
 *   ["The man bit him first.", "The man had bitten the dog."],
 * ];
 * assertAlmostEquals(bleu(texts, references), 48.530827, 1e-6);
 * ```
 */
export function bleu(
  hypotheses: readonly string[],
  references: References,
): number {
  const matches = Array<number>(ORDER).fill(0);
  const totals = Array<number>(ORDER).fill(0);
  let length = 0, closest = 0;
  for (const pair of pairTexts(hypotheses, references)) {
    const tokens = tokenize(pair.text), others = pair.references.map(tokenize);
    length += tokens.length;
    closest += others.map((other) => other.length).reduce((best, n) => {
      const gap = Math.abs(n - tokens.length) - Math.abs(best - tokens.length);
      return gap < 0 || gap === 0 && n < best ? n : best;
    });
    for (let i = 0; i < ORDER; i++) {
      const found = countRuns(tokens, i + 1);
      const allowed = new Map<string, number>();
      for (const other of others) {
        for (const [run, count] of countRuns(other, i + 1)) {
          allowed.set(run, Math.max(count, allowed.get(run) ?? 0));
        }
      }
      matches[i]! += countShared(found, allowed);
      totals[i]! += Math.max(0, tokens.length - i);
    }
  }
  if (totals.includes(0) || matches.every((n) => n === 0)) return 0;
  let smoothing = 1, logs = 0;
  matches.forEach((n, i) => {
    if (n === 0) smoothing *= 2;
    logs += Math.log((n || 1 / smoothing) / totals[i]!);
  });
  const brevity = Math.min(0, 1 - closest / length);
  return 100 * Math.exp(brevity + logs / ORDER);
}

/** The tokens of a text as those of mteval-v13a. */
function tokenize(text: string): string[] {
  const plain = text.replace(/\p{White_Space}+$/u, "")
    .replaceAll("<skipped>", "").replaceAll("-\n", "").replaceAll("\n", " ")
    .replaceAll("&quot;", '"').replaceAll("&amp;", "&")
    .replaceAll("&lt;", "<").replaceAll("&gt;", ">");
  return words(
    ` ${plain} `.replace(/[ -&(-+/:-@[-`{-~]/g, " $& ")
      .replace(/([^0-9])([.,])/g, "$1 $2 ")
      .replace(/([.,])([^0-9])/g, " $1 $2")
      .replace(/([0-9])-/g, "$1 - "),
  );
}
