/**
 * How well predicted classes agree with labels.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { checkPairs } from "./pairs.ts";

/** Classes, as numbers or names. */
export type Classes = ArrayLike<number> | ArrayLike<string>;

/** Options of `f1`. */
export interface F1Options {
  /**
   * Of one class, the mean over all classes that are predicted or labels, or of the counts of all of them together, which
   * is the accuracy; "binary".
   */
  readonly average?: "binary" | "macro" | "micro";
  /** The one class of "binary"; 1. */
  readonly positive?: number | string;
}

/** How often a class is right, predicted and the label. */
interface Tally {
  right: number;
  predicted: number;
  labels: number;
}

/**
 * The share of predictions that are their label, from 0 to 1.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { accuracy } from "cotan/nn";
 *
 * assertEquals(accuracy([1, 0, 2, 2], [1, 1, 2, 2]), 0.75);
 * ```
 */
export function accuracy(predictions: Classes, labels: Classes): number {
  const tallies = [...tally(predictions, labels).values()];
  return total(tallies, ({ right }) => right) / labels.length;
}

/**
 * The harmonic mean of precision and recall, from 0 to 1; 0 for a class that is never right. As f1_score of scikit-learn.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { f1 } from "cotan/nn";
 *
 * assertEquals(f1([1, 1, 0, 0], [1, 0, 1, 0]), 0.5);
 * assertEquals(f1(["a", "b"], ["a", "a"], { average: "macro" }), 1 / 3);
 * ```
 */
export function f1(
  predictions: Classes,
  labels: Classes,
  options: F1Options = {},
): number {
  const { average = "binary", positive = 1 } = options;
  if (average === "micro") return accuracy(predictions, labels);
  const tallies = tally(predictions, labels);
  if (average === "macro") {
    return total([...tallies.values()], f1Of) / tallies.size;
  }
  const one = tallies.get(positive);
  return one ? f1Of(one) : 0;
}

/**
 * Matthews' correlation coefficient of two classes or more (Gorodkin 2004), from -1 to 1; 0 where only one class is
 * predicted, or only one is a label. As matthews_corrcoef of scikit-learn.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { matthews } from "cotan/nn";
 *
 * assertAlmostEquals(matthews([1, 0, 1, 1], [1, 1, 1, 0]), -1 / 3);
 * ```
 */
export function matthews(predictions: Classes, labels: Classes): number {
  const tallies = [...tally(predictions, labels).values()];
  const n = labels.length;
  const right = total(tallies, (t) => t.right);
  const covariance = n * right - total(tallies, (t) => t.predicted * t.labels);
  const spread = (n ** 2 - total(tallies, (t) => t.predicted ** 2)) *
    (n ** 2 - total(tallies, (t) => t.labels ** 2));
  return spread === 0 ? 0 : covariance / Math.sqrt(spread);
}

/** Counts of each class that is predicted or a label. */
function tally(
  predictions: Classes,
  labels: Classes,
): Map<number | string, Tally> {
  checkPairs(predictions, labels, ["predictions", "labels"]);
  const tallies = new Map<number | string, Tally>();
  const of = (name: number | string): Tally => {
    const found = tallies.get(name) ?? { right: 0, predicted: 0, labels: 0 };
    tallies.set(name, found);
    return found;
  };
  for (let i = 0; i < labels.length; i++) {
    const predicted = predictions[i]!, label = labels[i]!;
    of(predicted).predicted++;
    of(label).labels++;
    if (predicted === label) of(label).right++;
  }
  return tallies;
}

function f1Of({ right, predicted, labels }: Tally): number {
  return predicted + labels === 0 ? 0 : 2 * right / (predicted + labels);
}

function total(
  tallies: readonly Tally[],
  value: (tally: Tally) => number,
): number {
  return tallies.reduce((sum, tally) => sum + value(tally), 0);
}
