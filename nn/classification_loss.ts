/**
 * The loss of a classifier, by what it learns: a number, one of several labels, or any of them.
 *
 * Letters: N examples, L labels.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { scope, type Tensor } from "../core/mod.ts";
import { crossEntropy } from "./cross_entropy.ts";
import { binaryCrossEntropy, meanSquaredError } from "./elementwise_losses.ts";

/** What a classifier learns, as `problem_type` of a configuration names it. */
export type Problem =
  | "regression"
  | "single_label_classification"
  | "multi_label_classification";

/** Options of `classificationLoss`. */
export interface ClassificationLossOptions {
  /** What is learnt; null or absent, it is seen from logits and labels. */
  readonly problem?: Problem | null;
}

/**
 * The mean loss of logits [..., L], by what the classifier learns:
 *
 * - "regression": `meanSquaredError`; labels are f32 [..., L], or [...] where L is 1;
 * - "single_label_classification": `crossEntropy`; labels are i32 [...], -100 for none;
 * - "multi_label_classification": `binaryCrossEntropy`; labels are f32 [..., L], from 0 to 1.
 *
 * Without a problem it is regression where L is 1, and else of single labels where they are i32, as in transformers.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals, assertEquals } from "@std/assert";
 * import { tensor, zeros } from "cotan";
 * import { classificationLoss } from "cotan/nn";
 *
 * const single = classificationLoss(zeros([2, 4]), tensor(Int32Array.of(3, 0)));
 * assertAlmostEquals(await single.item(), Math.log(4), 1e-6);
 * const number = classificationLoss(tensor([[1], [2]]), tensor([1, 4]));
 * assertEquals(await number.item(), 2);
 * ```
 */
export function classificationLoss(
  logits: Tensor,
  labels: Tensor,
  options: ClassificationLossOptions = {},
): Tensor {
  const problem = options.problem ?? problemOf(logits, labels);
  if (problem === "single_label_classification") {
    return crossEntropy(logits, labels);
  }
  if (problem === "multi_label_classification") {
    return binaryCrossEntropy(logits, labels);
  }
  const isOne = logits.shape.at(-1) === 1 &&
    labels.shape.length === logits.shape.length - 1;
  return scope(() =>
    meanSquaredError(isOne ? logits.squeeze(-1) : logits, labels)
  );
}

function problemOf(logits: Tensor, labels: Tensor): Problem {
  if (logits.shape.at(-1) === 1) return "regression";
  return labels.dtype === "i32"
    ? "single_label_classification"
    : "multi_label_classification";
}
