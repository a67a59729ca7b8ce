/**
 * Normalisation of the last axis: by its root mean square, or by its mean and variance.
 *
 * Letters: C channels.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  customVjp,
  format,
  scope,
  ShapeError,
  type Tensor,
} from "../core/mod.ts";
import { inForce, type Saved } from "./adapter_forms.ts";
import { widened } from "./quantized.ts";

/** Gain of a norm, and shift where it has one. */
export type Norm = {
  /** [C]. */
  readonly weight: Tensor;
  /** [C]; none when absent or null. */
  readonly bias?: Tensor | null;
  /** Trained copies of the two; none when absent. */
  readonly lora?: Saved | { readonly [name: string]: Saved };
};

/** Options of a norm. */
export interface NormOptions {
  /** Added to the mean square or the variance. */
  readonly eps?: number;
}

/**
 * `weight · x / √(mean(x²) + eps)` over the last axis (Zhang and Sennrich, arXiv 1910.07467): x is [..., C]; eps 1e-6.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { ones, tensor } from "cotan";
 * import { rmsNorm } from "cotan/nn";
 *
 * const y = rmsNorm({ weight: ones([2]) }, tensor([3, 4]));
 * assertAlmostEquals((await y.data())[0]!, 3 / Math.sqrt(12.5), 1e-6);
 * ```
 */
export function rmsNorm(
  norm: Norm,
  x: Tensor,
  options: NormOptions = {},
): Tensor {
  const p = inForce(norm);
  checkNorm(p, x);
  const { eps = 1e-6 } = options;
  const fwd = (x: Tensor): Normed => {
    const rate = meanOf(x.square()).add(eps).rsqrt();
    const out = x.mul(rate);
    return { out, residuals: { out, rate } };
  };
  return scope(() => {
    // dx = r (ct - y mean(y ct)), y = r x: from what the forward pass has, in one walk over a row and one to store.
    const normed = customVjp((x) => fwd(x).out, {
      fwd,
      bwd: ({ out, rate }, ct) => [
        ct.sub(out.mul(meanOf(out.mul(ct)))).mul(rate),
      ],
    });
    return gainAndShift(p, normed(x));
  });
}

/**
 * `weight · (x - mean) / √(variance + eps) + bias` over the last axis (Ba et al., arXiv 1607.06450): x is [..., C];
 * eps 1e-5.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { ones, tensor, zeros } from "cotan";
 * import { layerNorm } from "cotan/nn";
 *
 * const y = layerNorm({ weight: ones([2]), bias: zeros([2]) }, tensor([1, 3]));
 * assertAlmostEquals((await y.data())[1]!, 1 / Math.sqrt(1 + 1e-5), 1e-6);
 * ```
 */
export function layerNorm(
  norm: Norm,
  x: Tensor,
  options: NormOptions = {},
): Tensor {
  const p = inForce(norm);
  checkNorm(p, x);
  const { eps = 1e-5 } = options;
  const fwd = (x: Tensor): Normed => {
    // The variance of the centered values, not E[x²] - E[x]², which cancels.
    const centered = x.sub(meanOf(x));
    const rate = meanOf(centered.square()).add(eps).rsqrt();
    const out = centered.mul(rate);
    return { out, residuals: { out, rate } };
  };
  return scope(() => {
    // dx = r (ct - mean(ct) - y mean(y ct)), y = r (x - mean(x)).
    const normed = customVjp((x) => fwd(x).out, {
      fwd,
      bwd: ({ out, rate }, ct) => [
        ct.sub(meanOf(ct)).sub(out.mul(meanOf(out.mul(ct)))).mul(rate),
      ],
    });
    return gainAndShift(p, normed(x));
  });
}

/** Rows of mean square 1, and what its pullback needs: these, and what they were multiplied by to become so. */
interface Normed {
  readonly out: Tensor;
  readonly residuals: { readonly out: Tensor; readonly rate: Tensor };
}

function meanOf(x: Tensor): Tensor {
  return x.mean({ axis: -1, keepDims: true });
}

function gainAndShift({ weight, bias }: Norm, x: Tensor): Tensor {
  const y = x.mul(widened(weight));
  return bias ? y.add(widened(bias)) : y;
}

function checkNorm({ weight }: Norm, x: Tensor): void {
  if (weight.shape.length === 1 && x.shape.at(-1) === weight.shape[0]) return;
  throw new ShapeError(
    `Cannot norm ${format(x)} by ${
      format(weight)
    }: the gain must be a vector as long as the last axis`,
  );
}
