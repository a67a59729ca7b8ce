/**
 * Correlation of numbers.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { checkPairs } from "./pairs.ts";

/**
 * Pearson's correlation coefficient, from -1 to 1; NaN where one side is constant.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { pearson } from "cotan/nn";
 *
 * assertAlmostEquals(pearson([1, 2, 3], [2, 4, 6]), 1);
 * ```
 */
export function pearson(
  predictions: ArrayLike<number>,
  labels: ArrayLike<number>,
): number {
  checkPairs(predictions, labels, ["predictions", "labels"]);
  const x = unit(predictions), y = unit(labels);
  const r = x.reduce((sum, value, i) => sum + value * y[i]!, 0);
  return Math.max(-1, Math.min(1, r));
}

/**
 * Spearman's rank correlation coefficient: Pearson's of the ranks, those of ties their mean.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { spearman } from "cotan/nn";
 *
 * assertAlmostEquals(spearman([1, 2, 30], [5, 6, 7]), 1);
 * ```
 */
export function spearman(
  predictions: ArrayLike<number>,
  labels: ArrayLike<number>,
): number {
  checkPairs(predictions, labels, ["predictions", "labels"]);
  return pearson(ranks(predictions), ranks(labels));
}

/** Values less their mean, over the norm of that. */
function unit(values: ArrayLike<number>): number[] {
  const list = Array.from(values);
  if (list.every((value) => value === list[0])) return list.map(() => NaN);
  const mean = list.reduce((sum, value) => sum + value, 0) / list.length;
  const centred = list.map((value) => value - mean);
  const largest = centred.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
  // Squares of scaled values neither overflow nor vanish.
  const scaled = centred.map((value) => value / largest);
  const norm = Math.sqrt(scaled.reduce((sum, value) => sum + value ** 2, 0));
  return scaled.map((value) => value / norm);
}

/** Ranks from 1, the mean of theirs for ties; NaN for all where one value is NaN. */
function ranks(values: ArrayLike<number>): number[] {
  const list = Array.from(values);
  if (list.some(Number.isNaN)) return list.map(() => NaN);
  const order = list.map((_, i) => i).sort((a, b) =>
    list[a]! < list[b]! ? -1 : Number(list[a]! > list[b]!)
  );
  const found: number[] = [];
  for (let from = 0, to = 0; from < order.length; from = to) {
    while (to < order.length && list[order[to]!] === list[order[from]!]) to++;
    for (const i of order.slice(from, to)) found[i] = (from + 1 + to) / 2;
  }
  return found;
}
