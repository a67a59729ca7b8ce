/**
 * GPT-2's linear layer, whose weight lies the other way round.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { format, scope, ShapeError, type Tensor } from "../core/mod.ts";
import { adapted, projectFrom } from "./adapter.ts";
import { type Adapters, inForce, type Lora } from "./adapter_forms.ts";
import { type Bottleneck, bottlenecked } from "./bottleneck.ts";
import {
  dense,
  formatWeight,
  shapeOf,
  type Weight,
  widened,
  withDense,
} from "./quantized.ts";

/** A linear layer as GPT-2's checkpoints keep it. */
export type Conv1D<A extends Adapters = Lora> = {
  /** [in, out]. */
  readonly weight: Tensor;
  /** [out]; none when absent or null. */
  readonly bias?: Tensor | null;
  /** Adapters; none when absent. */
  readonly lora?: A;
  /** A bottleneck adapter of the output; none when absent. */
  readonly bottleneck?: Bottleneck | null;
};

/**
 * `x W + bias`, plus what the node's adapters add: x is [..., in], the result [..., out].
 *
 * Adapters are those of `linear`: a is [R, in] and b [out, R], or b [out / n, R] in each of n slices.
 * Throws `ShapeError` where the last axis of x is not `in`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { conv1D } from "cotan/nn";
 *
 * const layer = { weight: tensor([[1, 3, 5], [2, 4, 6]]), bias: tensor([0, 0, 1]) };
 * assertEquals(await conv1D(layer, tensor([[1, 1]])).toArray(), [[3, 7, 12]]);
 * ```
 */
export function conv1D(p: Conv1D<Adapters>, x: Tensor): Tensor {
  const { weight, bias } = inForce<Weight, typeof p.bias>(p);
  const shape = shapeOf(weight);
  if (shape.length !== 2 || x.shape.at(-1) !== shape[0]) {
    throw new ShapeError(
      `Cannot apply a Conv1D layer of weight ${formatWeight(weight)} to ${
        format(x)
      }: the last axis must be ${shape[0]}`,
    );
  }
  return scope(() => {
    const own = withDense(x, weight, (x, w) => x.matmul(w));
    const y = adapted(own, p.lora, {
      project: projectFrom(x),
      weight: () => dense(weight).transpose(),
    });
    return bottlenecked(bias ? y.add(widened(bias)) : y, p.bottleneck);
  });
}
