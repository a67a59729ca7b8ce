/**
 * What linear layers have in common, whichever way their weights lie.
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

/** A node of a linear layer. */
export type Affine<A extends Adapters = Lora> = {
  /** A matrix. */
  readonly weight: Tensor;
  /** [out]; none when absent or null. */
  readonly bias?: Tensor | null;
  /** Adapters; none when absent. */
  readonly lora?: A;
  /** A bottleneck adapter of the output; none when absent. */
  readonly bottleneck?: Bottleneck | null;
};

/** How the weight of a kind of layer lies. */
export interface Orientation {
  /** What such a layer is called in errors. */
  readonly name: string;
  /** Which axis of the weight is `in`. */
  readonly into: 0 | 1;
}

/** The layer's output [..., out] for x [..., in], with what its adapters add. */
export function affine(
  p: Affine<Adapters>,
  x: Tensor,
  { name, into }: Orientation,
): Tensor {
  const { weight, bias } = inForce<Weight, typeof p.bias>(p);
  const shape = shapeOf(weight);
  if (shape.length !== 2 || x.shape.at(-1) !== shape[into]) {
    throw new ShapeError(
      `Cannot apply a ${name} layer of weight ${formatWeight(weight)} to ${
        format(x)
      }: the last axis must be ${shape[into]}`,
    );
  }
  const turned = (w: Tensor) => into === 0 ? w.transpose() : w; // [out, in]
  return scope(() => {
    const own = withDense(
      x,
      weight,
      (x, w) => x.matmul(into === 0 ? w : w.transpose()),
    );
    const y = adapted(own, p.lora, {
      project: projectFrom(x),
      weight: () => turned(dense(weight)),
    });
    return bottlenecked(bias ? y.add(widened(bias)) : y, p.bottleneck);
  });
}
