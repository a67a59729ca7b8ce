/**
 * What is done to adapters as a whole: merged into the weights, dropped, scaled.
 *
 * All three give a new tree and leave the old one as it is, which is how they are undone: taking a merged change out
 * again would not give the old weights back exactly.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { scope, type TensorLike, type Tree } from "../core/mod.ts";
import {
  adaptedLayers,
  type Adapter,
  adapterOf,
  type Layer,
  mapLayers,
  type Node,
} from "./layers.ts";

/**
 * The model with each adapter added to its weight, W + scale · b a in f32, and without adapters.
 *
 * Throws `TreeError` where there is no adapter.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { mergeAdapters } from "cotan/lora";
 *
 * const tuned = {
 *   weight: tensor([[1, 2]]),
 *   lora: { a: tensor([[1, 1]]), b: tensor([[3]]), scale: tensor(2) },
 * };
 * assertEquals(await mergeAdapters(tuned).weight.toArray(), [[7, 8]]);
 * ```
 */
export function mergeAdapters<T extends Tree>(tuned: T): T {
  return mapAdapted(tuned, "merge adapters", (layer, { a, b, scale }) => ({
    ...without(layer.node),
    weight: scope(() => b.matmul(a).mul(scale).add(layer.weight)),
  }));
}

/**
 * The model without its adapters: the base.
 *
 * Throws `TreeError` where there is no adapter.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, zeros } from "cotan";
 * import { dropAdapters, lora } from "cotan/lora";
 *
 * const params = { weight: zeros([6, 4]), bias: null };
 * const key = random.key(0);
 * const tuned = lora({ head: params }, { targets: "head", rank: 2, alpha: 4, key });
 * assertEquals(dropAdapters(tuned), { head: params });
 * ```
 */
export function dropAdapters<T extends Tree>(tuned: T): T {
  return mapAdapted(tuned, "drop adapters", ({ node }) => without(node));
}

/**
 * The model with its adapters counting `factor` times as much: 0 gives what the base computes, 1 what it did. The
 * factor may be traced.
 *
 * Throws `TreeError` where there is no adapter.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { scaleAdapters } from "cotan/lora";
 *
 * const tuned = {
 *   weight: tensor([[1, 2]]),
 *   lora: { a: tensor([[1, 1]]), b: tensor([[3]]), scale: tensor(2) },
 * };
 * assertEquals(await scaleAdapters(tuned, 0.5).lora.scale.item(), 1);
 * ```
 */
export function scaleAdapters<T extends Tree>(
  tuned: T,
  factor: TensorLike,
): T {
  return mapAdapted(tuned, "scale adapters", ({ node }, adapter) => ({
    ...node,
    lora: { ...adapter, scale: adapter.scale.mul(factor) },
  }));
}

function mapAdapted<T extends Tree>(
  tree: T,
  what: string,
  change: (layer: Layer, adapter: Adapter) => Node,
): T {
  adaptedLayers(tree, what);
  return mapLayers(tree, (layer) => {
    const adapter = adapterOf(layer, what);
    return adapter ? change(layer, adapter) : layer.node;
  });
}

function without({ lora: _, ...node }: Node): Node {
  return node;
}
