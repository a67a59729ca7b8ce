/**
 * Low-rank adapters as they sit in the nodes of layers, and what they add to a layer's output.
 *
 * Letters: R rank; `in` and `out` are the features of the layer.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { concat, iota, type Tensor, where, zeros } from "../core/mod.ts";

/** A low-rank adapter (LoRA, arXiv 2106.09685): the weight changes by scale · b a. */
export type Lora = {
  /** [R, in]. */
  readonly a: Tensor;
  /** [out, R]. */
  readonly b: Tensor;
  /** Scalar, alpha / R in the paper. */
  readonly scale: Tensor;
  /** How many of the R ranks are in use, the first ones: an i32 scalar that may be traced; all when absent. */
  readonly rank?: Tensor;
  /** Ranks before this one take part but do not learn: an i32 scalar that may be traced; 0 when absent. */
  readonly from?: Tensor;
};

/** Adapters of the equal slices of a fused weight, such as query, key and value in one; null for a slice without. */
export type SlicedLora = readonly (Lora | null)[];

/** What a node carries as `lora`: an adapter, those of its slices, or several of either by name, which add up. */
export type Adapters = Lora | SlicedLora | {
  readonly [name: string]: Lora | SlicedLora;
};

/**
 * A layer's output [..., out] with what its adapters add. `project` gives `x aᵀ` [..., R] from a factor `a`.
 *
 * Two thin products for each adapter; the dense product b a is never formed.
 */
export function adapted(
  y: Tensor,
  adapters: Adapters | null | undefined,
  project: (a: Tensor) => Tensor,
): Tensor {
  if (!adapters) return y;
  return [...each(adapters)].reduce(
    (sum, one) =>
      sum.add(isSliced(one) ? slices(y, one, project) : change(one, project)),
    y,
  );
}

function* each(adapters: Adapters): Iterable<Lora | SlicedLora> {
  if (isSliced(adapters) || isLora(adapters)) yield adapters;
  else yield* Object.values(adapters);
}

function isSliced(adapters: Adapters): adapters is SlicedLora {
  return Array.isArray(adapters);
}

function isLora(adapters: Adapters): adapters is Lora {
  return "scale" in adapters;
}

/** What an adapter adds: two thin products, R · (in + out) multiplications a row. */
function change(lora: Lora, project: (a: Tensor) => Tensor): Tensor {
  const { a, b, scale, rank } = lora;
  const ranks = iota([b.shape[1]!]);
  const learns = lora.from && ranks.ge(lora.from);
  const down = learns ? where(learns.unsqueeze(1), a, a.stopGradient()) : a;
  const up = learns ? where(learns, b, b.stopGradient()) : b;
  const u = project(down);
  const used = rank ? where(ranks.lt(rank), u, 0) : u;
  return used.matmul(up.transpose()).mul(scale);
}

function slices(
  y: Tensor,
  loras: SlicedLora,
  project: (a: Tensor) => Tensor,
): Tensor {
  const shape = [...y.shape.slice(0, -1), y.shape.at(-1)! / loras.length];
  const parts = loras.map((lora) =>
    lora ? change(lora, project) : zeros(shape)
  );
  return concat(parts, { axis: -1 });
}
