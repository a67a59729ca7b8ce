/**
 * Quantisation of frozen weights, which adapters are then trained on (QLoRA, Dettmers et al., arXiv 2305.14314).
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  format,
  maximum,
  scope,
  type Selector,
  ShapeError,
  Tensor,
  tensor,
  type Tree,
  TreeError,
} from "../core/mod.ts";
import {
  BLOCK,
  dense,
  isQuantized,
  LEVELS,
  type QuantizedWeight,
} from "../nn/quantized.ts";
import { isHead, kindOf, type Layer, mapLayers } from "./layers.ts";
import { selectLayers } from "./targets.ts";

/** How weights are quantised. */
export interface QuantizeOptions {
  /** "int8": a byte a number and a scale a row. "nf4": half a byte and a magnitude for each 64 numbers of a row. */
  readonly kind: "int8" | "nf4";
  /** Which layers, as for `lora`; "all-linear". */
  readonly targets?: Selector;
}

/** Less than this in a whole row or block is nothing. */
const TINY = 1e-30;

/**
 * The model with quantised weights in linear layers: a node's `weight` is then `{ int8, scale }` or `{ nf4, absmax }`,
 * which `linear` and `conv1D` take as they do a tensor. The tree's type does not tell. Nothing of it can be trained but
 * adapters. A compiled product on WebAssembly reads the small weight, and nothing of its size in f32 is there; elsewhere it
 * is made f32 in the layer, and again for the gradient of its input.
 *
 * Throws `TreeError` where a target matches nothing or no linear layer, `ShapeError` where a row of the weight does not
 * fall into words of 4 bytes, or blocks of 64.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, tree } from "cotan";
 * import { quantize } from "cotan/lora";
 *
 * const params = { q_proj: { weight: random.normal(random.key(0), [8, 64]) } };
 * const small = quantize(params, { kind: "nf4" });
 * assertEquals(
 *   tree.leaves(small).map(({ path, leaf }) => `${path} ${leaf}`),
 *   ["q_proj.weight.nf4 u32[8, 8]", "q_proj.weight.absmax f32[8, 1]"],
 * );
 * ```
 */
export function quantize<T extends Tree>(
  params: T,
  { kind, targets = "all-linear" }: QuantizeOptions,
): T {
  const chosen = new Map(
    selectLayers(params, { targets }).map((layer) => [layer.path, layer]),
  );
  for (const layer of chosen.values()) checkLayer(layer, kind);
  return mapLayers(params, (layer) => {
    const { path, node, weight } = layer;
    if (!chosen.has(path) || !(weight instanceof Tensor)) return node;
    const small = scope((): QuantizedWeight =>
      kind === "int8" ? toInt8(dense(weight)) : toNf4(dense(weight))
    );
    return { ...node, weight: small };
  });
}

/**
 * The model with f32 weights in the place of quantised ones: near the weights that these were made of, not the same.
 *
 * @example
 * ```ts
 * import { assert } from "@std/assert";
 * import { tensor } from "cotan";
 * import { dequantize, quantize } from "cotan/lora";
 *
 * const params = { fc: { weight: tensor([[1, -0.5, 0.25, 0]]) } };
 * const { fc } = dequantize(quantize(params, { kind: "int8" }));
 * const gap = await fc.weight.sub(params.fc.weight).abs().max().item();
 * assert(gap < 1 / 254);
 * ```
 */
export function dequantize<T extends Tree>(params: T): T {
  return mapLayers(
    params,
    ({ node, weight }) =>
      isQuantized(weight)
        ? { ...node, weight: scope(() => dense(weight)) }
        : node,
  );
}

function checkLayer(layer: Layer, kind: "int8" | "nf4"): void {
  const { path, weight } = layer;
  if (kind !== "int8" && kind !== "nf4") {
    throw new RangeError(
      `Cannot quantise to "${kind}": there are "int8" and "nf4"`,
    );
  }
  if (isQuantized(weight)) {
    throw new TreeError(`Cannot quantise ${path}: it is quantised already`);
  }
  if (kindOf(layer) === "embedding" || isHead(layer)) {
    throw new TreeError(
      `Cannot quantise ${path}: it is ${
        isHead(layer) ? "an output head" : "an embedding"
      }, which stays f32; leave it out of the targets`,
    );
  }
  const unit = kind === "int8" ? 4 : BLOCK;
  if (weight.shape[1]! % unit === 0) return;
  throw new ShapeError(
    `Cannot quantise ${path} of weight ${
      format(weight)
    } to ${kind}: the last axis must be a multiple of ${unit}`,
  );
}

function toInt8(weight: Tensor): QuantizedWeight {
  const scale = weight.abs().max({ axis: 1 }).div(127);
  const values = weight.div(maximum(scale, TINY).unsqueeze(1)).round().add(128);
  return { int8: packed(values, 4), scale };
}

function toNf4(weight: Tensor): QuantizedWeight {
  const [rows, columns] = weight.shape as [number, number];
  const blocks = weight.reshape([rows, columns / BLOCK, BLOCK]);
  const absmax = blocks.abs().max({ axis: 2 });
  const unit = blocks.div(maximum(absmax, TINY).unsqueeze(2));
  const middles = LEVELS.slice(1).map((level, i) => (level + LEVELS[i]!) / 2);
  // The number of a level is how many of the middles between levels lie below.
  const levels = unit.unsqueeze(3).gt(tensor(middles)).cast("f32")
    .sum({ axis: 3 });
  return { nf4: packed(levels.reshape([rows, columns]), 8), absmax };
}

/** Small integers [M, N] as words u32 [M, N / each], the first in the lowest bits. */
function packed(values: Tensor, each: number): Tensor {
  const [rows, columns] = values.shape as [number, number];
  const places = Uint32Array.from(
    { length: each },
    (_, i) => 2 ** (32 / each * i),
  );
  return values.cast("u32").reshape([rows, columns / each, each])
    .mul(tensor(places)).sum({ axis: 2 });
}
