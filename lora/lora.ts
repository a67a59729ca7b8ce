/**
 * LoRA: low-rank adapters of linear layers (Hu et al., arXiv 2106.09685).
 *
 * Letters: R rank; `in` and `out` are the features of a layer.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  DTypeError,
  format,
  random,
  scope,
  type Selector,
  ShapeError,
  type Tensor,
  tensor,
  type Tree,
  TreeError,
  zeros,
} from "../core/mod.ts";
import { type Layer, layersOf, mapLayers } from "./layers.ts";
import { selectLayers } from "./targets.ts";

/** How `lora` adapts a model. */
export interface LoraOptions {
  /**
   * The layers: names, globs or RegExps over their paths as in any selector, or "all-linear" for every linear layer but
   * the output head.
   */
  readonly targets: Selector;
  /** Rank R of the change, from 1 to the smaller side of each weight. */
  readonly rank: number;
  /** The change counts alpha / rank times. */
  readonly alpha: number;
  /** Key for the values of A. */
  readonly key: Tensor;
  /** Share of the adapter's input that is dropped in training; only 0 so far. */
  readonly dropout?: number;
  /** Distribution of A: "kaiming" is U(±1/√in), as the authors' code and PEFT have it, "gaussian" N(0, 1/R²). */
  readonly init?: "kaiming" | "gaussian";
  /** Whether the scale is alpha / √rank (Kalajdzievski, arXiv 2312.03732). */
  readonly rslora?: boolean;
}

/**
 * The model with an adapter `lora: { a: [R, in], b: [out, R], scale }` in each target. b starts at zero, so the model
 * computes what it did, bit for bit. Everything else is shared with `params`.
 *
 * Throws `TreeError` where a target matches nothing or something that is no linear layer, `ShapeError` where the rank
 * does not fit.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, tree, zeros } from "cotan";
 * import { isAdapter, lora } from "cotan/lora";
 *
 * const params = { q_proj: { weight: zeros([6, 4]), bias: null } };
 * const tuned = lora(params, {
 *   targets: ["q_proj"],
 *   rank: 2,
 *   alpha: 4,
 *   key: random.key(0),
 * });
 * const [trainable] = tree.partition(tuned, isAdapter);
 * assertEquals(
 *   tree.leaves(trainable).map(({ path, leaf }) => `${path} ${leaf}`),
 *   ["q_proj.lora.a f32[2, 4]", "q_proj.lora.b f32[6, 2]"],
 * );
 * ```
 */
export function lora<T extends Tree>(params: T, options: LoraOptions): T {
  const { targets, rank, alpha, key, rslora = false } = options;
  checkOptions(options);
  const chosen = new Set(selectLayers(params, targets));
  // The key of a layer depends on its place among all layers, so that adapting one more leaves the others as they are.
  const order = layersOf(params).map(({ path }) => path).sort();
  const places = new Map(order.map((path, i) => [path, i]));
  return scope(() =>
    mapLayers(params, (layer) => {
      if (!chosen.has(layer.path)) return layer.node;
      checkLayer(layer, rank);
      const [out, features] = layer.weight.shape as [number, number];
      const ownKey = random.foldIn(key, places.get(layer.path)!);
      const adapter = {
        a: initial(ownKey, rank, features, options.init),
        b: zeros([out, rank]),
        scale: tensor(alpha / (rslora ? Math.sqrt(rank) : rank)),
      };
      return { ...layer.node, lora: adapter };
    })
  );
}

function initial(
  key: Tensor,
  rank: number,
  features: number,
  init: "kaiming" | "gaussian" = "kaiming",
): Tensor {
  const shape = [rank, features];
  if (init === "gaussian") return random.normal(key, shape).mul(1 / rank);
  const bound = 1 / Math.sqrt(features);
  return random.uniform(key, shape, { min: -bound, max: bound });
}

function checkOptions(options: LoraOptions): void {
  const { alpha, dropout = 0, init = "kaiming" } = options;
  if (!(alpha > 0 && alpha < Infinity)) {
    throw new RangeError(
      `Cannot adapt with alpha ${alpha}: it must be a positive number`,
    );
  }
  if (dropout !== 0) {
    throw new RangeError(
      `Cannot adapt with dropout ${dropout}: dropout in adapters is not supported yet; use 0`,
    );
  }
  if (init !== "kaiming" && init !== "gaussian") {
    throw new RangeError(
      `Cannot initialise adapters by "${init as string}": there are "kaiming" and "gaussian"`,
    );
  }
}

function checkLayer({ path, node, weight }: Layer, rank: number): void {
  const most = Math.min(...weight.shape);
  if (!Number.isInteger(rank) || rank < 1 || rank > most) {
    throw new ShapeError(
      `Cannot adapt ${path} of weight ${
        format(weight)
      } at rank ${rank}: the rank must be an integer from 1 to ${most}`,
    );
  }
  if (weight.dtype !== "f32") {
    throw new DTypeError(
      `Cannot adapt ${path} of weight ${format(weight)}: it must be f32`,
    );
  }
  if (node.lora !== null && node.lora !== undefined) {
    throw new TreeError(
      `Cannot adapt ${path}: it has an adapter already; use mergeAdapters or dropAdapters first`,
    );
  }
}

/**
 * Whether a path is that of a trainable leaf of an adapter: the selector for `tree.partition`.
 *
 * @example
 * ```ts
 * import { assert, assertFalse } from "@std/assert";
 * import { isAdapter } from "cotan/lora";
 *
 * assert(isAdapter("model.layers.0.self_attn.q_proj.lora.a"));
 * assertFalse(isAdapter("model.layers.0.self_attn.q_proj.lora.scale"));
 * ```
 */
export function isAdapter(path: string): boolean {
  // One segment between names the slice of a fused matrix, or the adapter among several.
  return /(?:^|\.)lora\.(?:[^.]+\.)?[ab]$/.test(path);
}
