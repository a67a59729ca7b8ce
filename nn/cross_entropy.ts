/**
 * Cross entropy between logits and labels.
 *
 * Letters: N examples, C classes, D size of a hidden state.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  DTypeError,
  type Factors,
  factorsOf,
  format,
  iota,
  scope,
  scoresLogSumExp,
  scoresTotal,
  ShapeError,
  type Tensor,
  type Type,
  where,
} from "../core/mod.ts";
import { widened } from "./quantized.ts";

/** Options of `crossEntropy`. */
export interface CrossEntropyOptions {
  /** Label of examples that do not count; -100. */
  readonly ignoreIndex?: number;
  /** Share of the target that is spread evenly over all classes, from 0 to 1; 0. */
  readonly labelSmoothing?: number;
  /** Mean over the examples that count, their sum, or one loss for each example; "mean". */
  readonly reduction?: "mean" | "sum" | "none";
}

/** Fewest classes for which logits are not stored where that can be avoided. */
const MANY = 4096;

/**
 * `-log softmax(logits)[label]`: logits are f32 [N, C], labels i32 [N]; the loss is a scalar, or [N] unreduced.
 *
 * As torch.nn.functional.cross_entropy, with more leading axes than one allowed; but the mean over no example is 0, not
 * NaN. A label outside 0..C-1 that is not ignored cannot be seen from the host; its loss is log Σ exp(logits).
 *
 * Logits of many classes that are a product with the table of a head are not computed as a whole where the backend can do
 * without: then it is `headCrossEntropy`.
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
  check("crossEntropy", logits, labels, options);
  return scope(() => {
    const classes = logits.shape.at(-1)!;
    const factors = classes >= MANY ? factorsOf(logits) : null;
    return factors
      ? lossOfHead(factors, labels, options)
      : lossOf(termsOf(logits, labels), labels, options);
  });
}

/**
 * The `crossEntropy` of the logits `hidden · weightᵀ` of a head: hidden is f32 [N, D], weight f32 or halves [C, D], labels
 * are i32 [N]. More leading axes than one are allowed.
 *
 * On wasm neither the loss nor its gradient stores the [N, C] logits.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { ones, tensor, zeros } from "cotan";
 * import { headCrossEntropy } from "cotan/nn";
 *
 * const labels = tensor(Int32Array.of(3, -100));
 * const loss = headCrossEntropy(ones([2, 4]), zeros([8, 4]), labels);
 * assertAlmostEquals(await loss.item(), Math.log(8), 1e-6);
 * ```
 */
export function headCrossEntropy(
  hidden: Tensor,
  weight: Tensor,
  labels: Tensor,
  options: CrossEntropyOptions = {},
): Tensor {
  const [C, D] = weight.shape;
  if (weight.shape.length !== 2 || hidden.shape.at(-1) !== D) {
    throw new ShapeError(
      `Cannot take headCrossEntropy of ${format(hidden)} and a head of weight ${
        format(weight)
      }: the last axes must be the same`,
    );
  }
  const logits: Type = {
    shape: [...hidden.shape.slice(0, -1), C!],
    dtype: "f32",
  };
  check("headCrossEntropy", logits, labels, options);
  return scope(() => {
    const x = hidden.reshape([-1, D!]);
    const factors = { x, table: weight, bias: null };
    return lossOfHead(factors, labels, options);
  });
}

/** What a loss consists of, for each example. */
interface Terms {
  /** Computes log Σ exp(logits). */
  readonly logSum: () => Tensor;
  /** The logit of the label; 0 where there is none. */
  readonly picked: Tensor;
  /** Computes the mean of the logits. */
  readonly mean: () => Tensor;
}

function termsOf(logits: Tensor, labels: Tensor): Terms {
  const target = labels.unsqueeze(-1);
  const classes = iota([logits.shape.at(-1)!]);
  return {
    logSum: () => logits.logSumExp({ axis: -1 }),
    // A sum over a mask and no gather: its gradient is a select, that of a gather a scatter into [N, C] zeros.
    picked: where(classes.eq(target), logits, 0).sum({ axis: -1 }),
    mean: () => logits.mean({ axis: -1 }),
  };
}

function termsOfHead({ x, table, bias }: Factors, labels: Tensor): Terms {
  const plus = (score: Tensor, more: (bias: Tensor) => Tensor) =>
    bias ? score.add(more(bias)) : score;
  const flat = labels.reshape([-1]), classes = table.shape[0]!;
  const row = widened(table.take(flat));
  const dot = (rows: Tensor) => x.mul(rows).sum({ axis: -1 });
  const hasRow = flat.ge(0).and(flat.lt(classes));
  return {
    logSum: () => scoresLogSumExp(x, table, bias).reshape(labels.shape),
    picked: where(hasRow, plus(dot(row), (b) => b.take(flat)), 0)
      .reshape(labels.shape),
    mean: () =>
      plus(dot(widened(table).mean({ axis: 0 })), (b) => b.mean())
        .reshape(labels.shape),
  };
}

/** Of losses with weights that are known before, the kernel of a head makes the gradients along with the sum. */
function lossOfHead(
  factors: Factors,
  labels: Tensor,
  options: CrossEntropyOptions,
): Tensor {
  const terms = termsOfHead(factors, labels);
  if (options.reduction === "none") return lossOf(terms, labels, options);
  const counts = countsOf(labels, options), number = numberOf(counts, options);
  const weight = counts.cast("f32").div(number).reshape([-1]);
  const wanted = where(counts, wantedOf(terms, options), 0).sum().div(number);
  const { x, table, bias } = factors;
  return scoresTotal(x, table, weight, bias).sub(wanted);
}

function lossOf(
  terms: Terms,
  labels: Tensor,
  options: CrossEntropyOptions,
): Tensor {
  const counts = countsOf(labels, options);
  const losses = where(counts, terms.logSum().sub(wantedOf(terms, options)), 0);
  if (options.reduction === "none") return losses;
  return losses.sum().div(numberOf(counts, options));
}

/** What the loss of each example is less than its `logSum`. */
function wantedOf(
  { picked, mean }: Terms,
  { labelSmoothing = 0 }: CrossEntropyOptions,
): Tensor {
  return labelSmoothing > 0
    ? picked.mul(1 - labelSmoothing).add(mean().mul(labelSmoothing))
    : picked;
}

/** Which examples count. */
function countsOf(
  labels: Tensor,
  { ignoreIndex = -100 }: CrossEntropyOptions,
): Tensor {
  return labels.ne(ignoreIndex);
}

/** What the sum of their losses is divided by. */
function numberOf(
  counts: Tensor,
  { reduction }: CrossEntropyOptions,
): Tensor | number {
  return reduction === "sum" ? 1 : counts.cast("f32").sum().maximum(1);
}

function check(
  name: string,
  logits: Type,
  labels: Tensor,
  { labelSmoothing = 0 }: CrossEntropyOptions,
): void {
  const both = `${format(logits)} and ${format(labels)}`;
  if (labels.dtype !== "i32") {
    throw new DTypeError(
      `Cannot take ${name} of ${both}: labels are i32; use cast`,
    );
  }
  const lead = logits.shape.slice(0, -1);
  const fits = logits.shape.length === labels.shape.length + 1 &&
    lead.every((d, i) => d === labels.shape[i]);
  if (!fits) {
    throw new ShapeError(
      `Cannot take ${name} of ${both}: labels must have the shape of logits but for the last axis`,
    );
  }
  if (!(labelSmoothing >= 0 && labelSmoothing <= 1)) {
    throw new RangeError(
      `Cannot take ${name} with labelSmoothing ${labelSmoothing}: it must be from 0 to 1`,
    );
  }
}
