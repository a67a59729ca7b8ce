/**
 * What metrics of texts share: references, words, and counts of n-grams.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { ShapeError } from "../../core/mod.ts";
import { checkPairs } from "./pairs.ts";

/** What a text is compared with: one text, or several of which it may be like any. */
export type References = readonly (string | readonly string[])[];

/** Texts with their references as lists. */
export function pairTexts(
  hypotheses: readonly string[],
  references: References,
): { readonly text: string; readonly references: readonly string[] }[] {
  checkPairs(hypotheses, references, ["texts", "references"]);
  return hypotheses.map((text, i) => {
    const list = [references[i]!].flat();
    if (list.length > 0) return { text, references: list };
    throw new ShapeError(
      `Cannot compare text ${i} with no reference: there must be one or more`,
    );
  });
}

/** The words between white space. */
export function words(text: string): string[] {
  return text.split(/\p{White_Space}+/u).filter((word) => word !== "");
}

/** How often each run of `order` parts occurs, by the parts joined by spaces. */
export function countRuns(
  parts: readonly string[],
  order: number,
): Map<string, number> {
  const counts = new Map<string, number>();
  for (let i = 0; i + order <= parts.length; i++) {
    const run = parts.slice(i, i + order).join(" ");
    counts.set(run, (counts.get(run) ?? 0) + 1);
  }
  return counts;
}

/** How many runs two texts share, each as often as in both. */
export function countShared(
  a: ReadonlyMap<string, number>,
  b: ReadonlyMap<string, number>,
): number {
  let shared = 0;
  for (const [run, count] of a) shared += Math.min(count, b.get(run) ?? 0);
  return shared;
}
