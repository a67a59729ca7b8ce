/**
 * LoRA: low-rank adapters of layers (Hu et al., arXiv 2106.09685), and its variants.
 *
 * Letters: R rank; `in` and `out` are the features of a layer.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { random, scope, Tensor, tensor, type Tree } from "../core/mod.ts";
import type { Adapter, Lora, Saved } from "../nn/adapter_forms.ts";
import { rowNorms } from "../nn/dora.ts";
import { dense } from "../nn/quantized.ts";
import { initialFactors, pissaIterations } from "./factors.ts";
import {
  kindOf,
  type Layer,
  mapLayers,
  type Node,
  oriented,
  sizesOf,
} from "./layers.ts";
import { layerKeys } from "./layer_keys.ts";
import { withAdapter } from "./loras.ts";
import { checkOptions, type LoraOptions } from "./options.ts";
import { checkRank, type Setting, settingsOf } from "./settings.ts";
import { updateOf } from "./update.ts";

/**
 * The model with an adapter `lora: { a: [R, in], b: [out, R], scale }` in each target. b starts at zero, so the model
 * computes what it did, bit for bit. Everything else is shared with `params`.
 *
 * Adapters of slices are a list, `lora: [{ a, b, scale }, null, …]`. Biases and layers that are trained whole are copies,
 * `lora: { bias }` or `lora: { weight, bias }`, which stand in for the node's own; these stay what they were. Only "pissa"
 * changes the base: it takes out of the weight what the adapter starts as.
 *
 * Throws `TreeError` where a target or pattern matches nothing or something that can have no adapter, `ShapeError` where
 * the rank does not fit.
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
  checkOptions(options);
  const settings = settingsOf(params, options);
  const keyOf = layerKeys(params, options.key);
  return scope(() =>
    mapLayers(params, (layer) => {
      const setting = settings.get(layer.path);
      if (!setting) return layer.node;
      return adapt(layer, setting, options, keyOf);
    })
  );
}

/** The node of a layer with its adapter. */
function adapt(
  layer: Layer,
  setting: Setting,
  options: LoraOptions,
  keyOf: (path: string) => Tensor,
): Node {
  const copies = savedOf(layer, setting);
  const { loras, node } = lowRank(layer, setting, options, keyOf);
  const hasCopies = Object.keys(copies).length > 0;
  const adapter: Adapter = !loras
    ? copies
    : setting.parts
    ? hasCopies ? { slices: loras, ...copies } : loras
    : { ...loras[0]!, ...copies };
  return withAdapter(node, adapter, options.name);
}

/** Copies of what is trained whole. Donating them leaves the base as it is. */
function savedOf({ node, weight }: Layer, { saves }: Setting): Saved {
  return Object.fromEntries(
    saves.flatMap((name) => {
      const own = name === "weight" ? weight : node[name] as Tensor | null;
      return own ? [[name, dense(own).mul(1)]] : [];
    }),
  );
}

/** The adapters of a layer's weight or of its slices, and the node, of which "pissa" changes the weight. */
function lowRank(
  layer: Layer,
  { rank, alpha, parts = [true] }: Setting,
  options: LoraOptions,
  keyOf: (path: string) => Tensor,
): { loras: (Lora | null)[] | null; node: Node } {
  const { node, path, weight } = layer;
  if (rank === null) return { loras: null, node };
  const { init = "kaiming", rslora, dora, dropout = 0, fanInFanOut } = options;
  const kind = kindOf(layer, fanInFanOut);
  const { into, out } = sizesOf(layer, kind);
  const size = out / parts.length;
  checkRank(layer, rank, [size, into]);
  const scale = alpha / (rslora ? Math.sqrt(rank) : rank);
  const isEmbedding = kind === "embedding";
  const whole = () => oriented(dense(weight), kind);
  const part = (i: number) => whole().slice([[i * size, (i + 1) * size]]);
  const loras = parts.map((isAdapted, i): Lora | null => {
    if (!isAdapted) return null;
    const key = parts.length > 1 ? random.foldIn(keyOf(path), i) : keyOf(path);
    const factors = {
      ...initialFactors(key, () => part(i), [size, into], {
        rank,
        scale,
        init,
        isEmbedding,
      }),
      scale: tensor(scale),
    };
    return {
      ...factors,
      ...(dora && { magnitude: rowNorms(part(i), factors) }),
      ...(dropout > 0 && !isEmbedding && { rate: tensor(dropout) }),
    };
  });
  if (pissaIterations(init) === null) return { loras, node };
  const rest = whole().sub(updateOf(loras, whole()));
  const dtype = weight instanceof Tensor ? weight.dtype : "f32";
  const kept = oriented(rest, kind).cast(dtype);
  return { loras, node: { ...node, weight: kept } };
}
