/**
 * Bottleneck adapters: a small network behind a layer, in its node.
 *
 * Letters: S size of the bottleneck; `out` is the number of features that the layer gives.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Tensor } from "../core/mod.ts";

/** A bottleneck adapter (Houlsby et al., arXiv 1902.00751): y becomes y + relu(y downᵀ + bias) upᵀ + bias. */
export type Bottleneck = {
  /** To the bottleneck. */
  readonly down: {
    /** [S, out]. */
    readonly weight: Tensor;
    /** [S]. */
    readonly bias: Tensor;
  };
  /** And back. */
  readonly up: {
    /** [out, S]. */
    readonly weight: Tensor;
    /** [out]. */
    readonly bias: Tensor;
  };
};

/** The output y of a layer, [..., out], with what its bottleneck adds, if it has one. */
export function bottlenecked(
  y: Tensor,
  bottleneck: Bottleneck | null | undefined,
): Tensor {
  if (!bottleneck) return y;
  const { down, up } = bottleneck;
  const inner = y.matmul(down.weight.transpose()).add(down.bias).relu();
  return y.add(inner.matmul(up.weight.transpose()).add(up.bias));
}
