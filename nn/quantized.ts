/**
 * Weights that are stored in less than f32, quantised to 8 or 4 bits or as halves, and made f32 inside the layer.
 *
 * Letters: M rows, N columns of the weight as its layer keeps it.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { checkpoint, format, Tensor } from "../core/mod.ts";

/** Integers from -127 to 127 and a scale for each row. */
export type Int8Weight = {
  /** u32 [M, N / 4]: four integers a word, 128 added, the first in the lowest byte. */
  readonly int8: Tensor;
  /** f32 [M]: what 1 stands for. */
  readonly scale: Tensor;
};

/** QLoRA's NF4 (arXiv 2305.14314): sixteen levels, and the largest magnitude in each block of 64 along a row. */
export type Nf4Weight = {
  /** u32 [M, N / 8]: eight numbers of levels a word, the first in the lowest bits. */
  readonly nf4: Tensor;
  /** f32 [M, N / 64]. */
  readonly absmax: Tensor;
};

/** A quantised weight. */
export type QuantizedWeight = Int8Weight | Nf4Weight;

/** A weight: quantised, f32, or halves. */
export type Weight = Tensor | QuantizedWeight;

/** Elements of a block that share a magnitude. */
export const BLOCK = 64;

/** NF4's levels: quantiles of a normal distribution, with 0 among them (QLoRA, appendix E). */
export const LEVELS: readonly number[] = [
  -1,
  -0.6961928009986877,
  -0.5250730514526367,
  -0.39491748809814453,
  -0.28444138169288635,
  -0.18477343022823334,
  -0.09105003625154495,
  0,
  0.07958029955625534,
  0.16093020141124725,
  0.24611230194568634,
  0.33791524171829224,
  0.44070982933044434,
  0.5626170039176941,
  0.7229568362236023,
  1,
];

/** Whether something is a quantised weight. */
export function isQuantized(weight: unknown): weight is QuantizedWeight {
  if (typeof weight !== "object" || weight === null) return false;
  const { int8, nf4 } = weight as Partial<Int8Weight & Nf4Weight>;
  return int8 instanceof Tensor || nf4 instanceof Tensor;
}

/** Shape [M, N] of a weight. */
export function shapeOf(weight: Weight): readonly number[] {
  if (weight instanceof Tensor) return weight.shape;
  const words = "int8" in weight ? weight.int8 : weight.nf4;
  const [rows, size] = words.shape as [number, number];
  return [rows, size * ("int8" in weight ? 4 : 8)];
}

/** A weight's type, for errors. */
export function formatWeight(weight: Weight): string {
  if (weight instanceof Tensor) return format(weight);
  const kind = "int8" in weight ? "int8" : "nf4";
  return `${kind}[${shapeOf(weight).join(", ")}]`;
}

/** A weight as f32, [M, N] where it is quantised. */
export function dense(weight: Weight): Tensor {
  if (weight instanceof Tensor) return widened(weight);
  if ("int8" in weight) {
    return weight.int8.unpack().sub(128).mul(weight.scale.unsqueeze(1));
  }
  const [rows, columns] = shapeOf(weight) as [number, number];
  return weight.nf4.unpack(LEVELS).reshape([rows, columns / BLOCK, BLOCK])
    .mul(weight.absmax.unsqueeze(2)).reshape([rows, columns]);
}

/** Some rows of a weight as f32, without those before and behind them. */
export function rowsOf(weight: Weight, from: number, count: number): Tensor {
  const part = (x: Tensor) => x.slice([[from, from + count]]);
  if (weight instanceof Tensor) return widened(part(weight));
  return "int8" in weight
    ? dense({ int8: part(weight.int8), scale: part(weight.scale) })
    : dense({ nf4: part(weight.nf4), absmax: part(weight.absmax) });
}

/** A tensor of halves as f32; another as it is. */
export function widened(x: Tensor): Tensor {
  return x.dtype === "f16" || x.dtype === "bf16" ? x.cast("f32") : x;
}

/** `f` of x and a weight as f32. That of a quantised one is not kept for the gradient of x, but computed again. */
export function withDense(
  x: Tensor,
  weight: Weight,
  f: (x: Tensor, weight: Tensor) => Tensor,
): Tensor {
  if (weight instanceof Tensor) return f(x, widened(weight));
  const again = checkpoint((x: Tensor, w: QuantizedWeight) => f(x, dense(w)));
  return again(x, weight);
}
