/**
 * The linear layer, with low-rank adapters where its node carries them.
 *
 * Letters: `in` and `out` are the numbers of features.
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

/** A linear layer as PyTorch's nn.Linear keeps it. */
export type Linear<A extends Adapters = Lora> = {
  /** [out, in]. */
  readonly weight: Tensor;
  /** [out]; none when absent or null. */
  readonly bias?: Tensor | null;
  /** Adapters; none when absent. */
  readonly lora?: A;
  /** A bottleneck adapter of the output; none when absent. */
  readonly bottleneck?: Bottleneck | null;
};

/**
 * `x Wᵀ + bias`, plus `scale · ((x aᵀ) bᵀ)` for each adapter of the node: x is [..., in], the result [..., out].
 *
 * The dense product b a is never formed. With b = 0 the result equals that of the bare layer.
 * Throws `ShapeError` where the last axis of x is not `in`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { linear } from "cotan/nn";
 *
 * const layer = { weight: tensor([[1, 2], [3, 4], [5, 6]]), bias: tensor([0, 0, 1]) };
 * assertEquals(await linear(layer, tensor([[1, 1]])).toArray(), [[3, 7, 12]]);
 * ```
 */
export function linear(p: Linear<Adapters>, x: Tensor): Tensor {
  const { weight, bias } = inForce<Weight, typeof p.bias>(p);
  const shape = shapeOf(weight);
  if (shape.length !== 2 || x.shape.at(-1) !== shape[1]) {
    throw new ShapeError(
      `Cannot apply a linear layer of weight ${formatWeight(weight)} to ${
        format(x)
      }: the last axis must be ${shape[1]}`,
    );
  }
  return scope(() => {
    const own = withDense(x, weight, (x, w) => x.matmul(w.transpose()));
    const y = adapted(own, p.lora, {
      project: projectFrom(x),
      weight: () => dense(weight),
    });
    return bottlenecked(bias ? y.add(widened(bias)) : y, p.bottleneck);
  });
}
