/**
 * Cross entropy between logits and labels.
 *
 * Letters: N examples, C classes.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  DTypeError,
  format,
  iota,
  scope,
  ShapeError,
  type Tensor,
  where,
} from "../core/mod.ts";

/** Options of `crossEntropy`. */
export interface CrossEntropyOptions {
  /** Label of examples that do not count; -100. */
  readonly ignoreIndex?: number;
  /** Share of the target that is spread evenly over all classes, from 0 to 1; 0. */
  readonly labelSmoothing?: number;
  /** Mean over the examples that count, their sum, or one loss for each example; "mean". */
  readonly reduction?: "mean" | "sum" | "none";
}

/**
 * `-log softmax(logits)[label]`: logits are f32 [N, C], labels i32 [N]; the loss is a scalar, or [N] unreduced.
 *
 * As torch.nn.functional.cross_entropy, with more leading axes than one allowed; but the mean over no example is 0, not
 * NaN. A label outside 0..C-1 that is not ignored cannot be seen from the host; its loss is log Σ exp(logits).
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { tensor, zeros } from "cotan";
 * import { crossEntropy } from "cotan/nn";
 *
 * const loss = crossEntropy(zeros([2, 8]), tensor(Int32Array.of(3, -100)));
 * assertAlmostEquals(await loss.item(), Math.log(8), 1e-6);
 * ```
 */
export function crossEntropy(
  logits: Tensor,
  labels: Tensor,
  options: CrossEntropyOptions = {},
): Tensor {
  const { ignoreIndex = -100, labelSmoothing = 0, reduction = "mean" } =
    options;
  check(logits, labels, labelSmoothing);
  return scope(() => {
    const classes = logits.shape.at(-1)!;
    const target = labels.unsqueeze(-1);
    // A sum over a mask and no gather: its gradient is a select, that of a gather a scatter into [N, C] zeros.
    const picked = where(iota([classes]).eq(target), logits, 0)
      .sum({ axis: -1 });
    let wanted = picked;
    if (labelSmoothing > 0) {
      wanted = picked.mul(1 - labelSmoothing)
        .add(logits.mean({ axis: -1 }).mul(labelSmoothing));
    }
    const counts = labels.ne(ignoreIndex);
    const losses = where(counts, logits.logSumExp({ axis: -1 }).sub(wanted), 0);
    if (reduction === "none") return losses;
    if (reduction === "sum") return losses.sum();
    return losses.sum().div(counts.cast("f32").sum().maximum(1));
  });
}

function check(logits: Tensor, labels: Tensor, labelSmoothing: number): void {
  const both = `${format(logits)} and ${format(labels)}`;
  if (labels.dtype !== "i32") {
    throw new DTypeError(
      `Cannot take crossEntropy of ${both}: labels are i32; use cast`,
    );
  }
  const lead = logits.shape.slice(0, -1);
  const fits = logits.shape.length === labels.shape.length + 1 &&
    lead.every((d, i) => d === labels.shape[i]);
  if (!fits) {
    throw new ShapeError(
      `Cannot take crossEntropy of ${both}: labels must have the shape of logits but for the last axis`,
    );
  }
  if (!(labelSmoothing >= 0 && labelSmoothing <= 1)) {
    throw new RangeError(
      `Cannot take crossEntropy with labelSmoothing ${labelSmoothing}: it must be from 0 to 1`,
    );
  }
}
