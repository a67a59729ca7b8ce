/**
 * GPT-2's linear layer, whose weight lies the other way round.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Tensor } from "../core/mod.ts";
import type { Adapters, Lora } from "./adapter_forms.ts";
import { type Affine, affine } from "./affine.ts";

/** A linear layer as GPT-2's checkpoints keep it. */
export type Conv1D<A extends Adapters = Lora> = Affine<A> & {
  /** [in, out]. */
  readonly weight: Tensor;
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
  return affine(p, x, { name: "Conv1D", into: 0 });
}
