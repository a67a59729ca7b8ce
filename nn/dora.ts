/**
 * DoRA: adapters that learn the length of each row of the weight apart from its direction.
 *
 * Letters: R rank; `in` and `out` are the features of the layer.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Tensor } from "../core/mod.ts";
import type { Lora } from "./adapter_forms.ts";

/**
 * What a DoRA adapter adds to a layer's own output y = x Wᵀ, from what its factors alone would add.
 *
 * The adapted weight is m / ‖V‖ · V with V = W + s b a, so the output is g (y + added), g = m / ‖V‖, of which y is there
 * already. The length is held fixed in the backward pass (arXiv 2402.09353, section 4.3).
 */
export function renormed(
  added: Tensor,
  lora: Lora,
  y: Tensor,
  weight: Tensor,
): Tensor {
  const gain = lora.magnitude!.div(rowNorms(weight, lora));
  return y.mul(gain.sub(1)).add(added.mul(gain));
}

/**
 * Lengths of the rows of W + s b a [out], W being [out, in], from which no gradient flows:
 * ‖Wᵢ‖² + 2 s (W aᵀ)ᵢ · bᵢ + s² bᵢ (a aᵀ) bᵢᵀ, so that the sum is never formed.
 */
export function rowNorms(
  weight: Tensor,
  factors?: Pick<Lora, "a" | "b" | "scale">,
): Tensor {
  const own = weight.stopGradient().square().sum({ axis: 1 });
  if (!factors) return own.sqrt();
  const [a, b, scale] = [factors.a, factors.b, factors.scale]
    .map((x) => x.stopGradient()) as [Tensor, Tensor, Tensor];
  const across = weight.stopGradient().matmul(a.transpose()); // [out, R]
  const gram = a.matmul(a.transpose()); // [R, R]
  const both = across.mul(2).add(b.matmul(gram).mul(scale));
  return own.add(both.mul(b).sum({ axis: 1 }).mul(scale)).sqrt();
}
