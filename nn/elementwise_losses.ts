/**
 * Losses of each element by itself: the square of an error, and binary cross entropy.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  DTypeError,
  format,
  scope,
  ShapeError,
  type Tensor,
} from "../core/mod.ts";

/** Options of losses of elements. */
export interface ElementLossOptions {
  /** Mean over all elements, their sum, or one loss for each; "mean". */
  readonly reduction?: "mean" | "sum" | "none";
}

/**
 * `(prediction - label)²`, of f32 tensors of one shape, as torch.nn.functional.mse_loss.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { meanSquaredError } from "cotan/nn";
 *
 * const loss = meanSquaredError(tensor([1, 5]), tensor([2, 2]));
 * assertEquals(await loss.item(), 5);
 * ```
 */
export function meanSquaredError(
  predictions: Tensor,
  labels: Tensor,
  options: ElementLossOptions = {},
): Tensor {
  check("meanSquaredError", predictions, labels);
  return scope(() => reduce(predictions.sub(labels).square(), options));
}

/**
 * `-y log σ(x) - (1 - y) log(1 - σ(x))` of logits x and labels y from 0 to 1, f32 of one shape, as
 * torch.nn.functional.binary_cross_entropy_with_logits; finite for every finite logit.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { binaryCrossEntropy } from "cotan/nn";
 *
 * const loss = binaryCrossEntropy(tensor([0, 100]), tensor([1, 1]));
 * assertAlmostEquals(await loss.item(), Math.log(2) / 2, 1e-6);
 * ```
 */
export function binaryCrossEntropy(
  logits: Tensor,
  labels: Tensor,
  options: ElementLossOptions = {},
): Tensor {
  check("binaryCrossEntropy", logits, labels);
  // log(1 + exp(x)) - x y.
  return scope(() =>
    reduce(logits.softplus().sub(logits.mul(labels)), options)
  );
}

function reduce(
  losses: Tensor,
  { reduction = "mean" }: ElementLossOptions,
): Tensor {
  if (reduction === "none") return losses;
  return reduction === "sum" ? losses.sum() : losses.mean();
}

function check(name: string, x: Tensor, labels: Tensor): void {
  const what = `Cannot take ${name} of ${format(x)} and ${format(labels)}`;
  if (labels.dtype !== x.dtype) {
    throw new DTypeError(`${what}: labels must be ${x.dtype}; use cast`);
  }
  const fits = x.shape.length === labels.shape.length &&
    x.shape.every((d, i) => d === labels.shape[i]);
  if (!fits) throw new ShapeError(`${what}: the shapes differ`);
}
