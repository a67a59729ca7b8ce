/**
 * The linear layer, with low-rank adapters where its node carries them.
 *
 * Letters: `in` and `out` are the numbers of features.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Tensor } from "../core/mod.ts";
import type { Adapters, Lora } from "./adapter_forms.ts";
import { type Affine, affine } from "./affine.ts";

/** A linear layer as PyTorch's nn.Linear keeps it. */
export type Linear<A extends Adapters = Lora> = Affine<A> & {
  /** [out, in]. */
  readonly weight: Tensor;
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
  return affine(p, x, { name: "linear", into: 1 });
}
