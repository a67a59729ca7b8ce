/**
 * The linear layer, with a low-rank adapter where its node carries one.
 *
 * Letters: R rank; `in` and `out` are the numbers of features.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { format, scope, ShapeError, type Tensor } from "../core/mod.ts";

/** A low-rank adapter of a linear layer (LoRA, arXiv 2106.09685): the weight changes by scale · b a. */
export type Lora = {
  /** [R, in]. */
  readonly a: Tensor;
  /** [out, R]. */
  readonly b: Tensor;
  /** Scalar, alpha / R in the paper. */
  readonly scale: Tensor;
};

/** A linear layer as PyTorch's nn.Linear keeps it. */
export type Linear = {
  /** [out, in]. */
  readonly weight: Tensor;
  /** [out]; none when absent or null. */
  readonly bias?: Tensor | null;
  /** Adapter of the weight; none when absent. */
  readonly lora?: Lora;
};

/**
 * `x Wᵀ + bias`, plus `scale · ((x aᵀ) bᵀ)` where the node has an adapter: x is [..., in], the result [..., out].
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
export function linear(p: Linear, x: Tensor): Tensor {
  const { weight, bias, lora } = p;
  if (weight.shape.length !== 2 || x.shape.at(-1) !== weight.shape[1]) {
    throw new ShapeError(
      `Cannot apply a linear layer of weight ${format(weight)} to ${
        format(x)
      }: the last axis must be ${weight.shape[1]}`,
    );
  }
  return scope(() => {
    let y = x.matmul(weight.transpose());
    if (bias) y = y.add(bias);
    if (lora) y = y.add(loraDelta(lora, x));
    return y;
  });
}

/** What an adapter adds: two thin products, R · (in + out) multiplications a row. */
function loraDelta({ a, b, scale }: Lora, x: Tensor): Tensor {
  return x.matmul(a.transpose()).matmul(b.transpose()).mul(scale);
}
