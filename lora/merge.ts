/**
 * Merging of adapters into the weights, and what it changes.
 *
 * It gives a new tree and leaves the old one as it is, which is how it is undone: taking a merged change out again would
 * not give the old weights back exactly.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  scope,
  Tensor,
  type Tree,
  tree as trees,
  TreeError,
} from "../core/mod.ts";
import { adaptersIn, inForce, partsOf } from "../nn/adapter_forms.ts";
import {
  dense,
  formatWeight,
  isQuantized,
  type Weight,
} from "../nn/quantized.ts";
import {
  isTied,
  kindOf,
  type Layer,
  layersOf,
  mapLayers,
  type Node,
  oriented,
} from "./layers.ts";
import { type AdaptedLayer, bare, mapAdapted } from "./loras.ts";
import { updateOf } from "./update.ts";

/** How adapters are merged. */
export interface MergeOptions {
  /**
   * Whether a decoder's output head gets a weight of its own where it is tied to an embedding that changes: the unchanged
   * table, at `lm_head`. The model is then one of `tie_word_embeddings: false`.
   */
  readonly untie?: boolean;
  /**
   * What adapters of quantised weights are merged into: "quantised" is these weights made f32, which the adapters were
   * trained on, in the adapted layers alone; parameters of the same model are taken in every quantised layer.
   */
  readonly base?: "quantised" | Tree;
  /** Whether weights are [in, out], in all layers but embeddings; by their names and sizes when absent. */
  readonly fanInFanOut?: boolean;
}

/**
 * The model with each adapter added to its weight, W + scale · b a in f32 and rounded once, with copies in the place of what they stand in
 * for, and without adapters. Of several by name all are added: choose by `activate` first.
 *
 * Throws `TreeError` where there is no adapter, where it is a stack's, and where a changed embedding is the output head
 * too, unless that is to be untied.
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
export function mergeAdapters<T extends Tree>(
  tuned: T,
  options: MergeOptions = {},
): T {
  const layers = layersOf(tuned);
  const baseAt = basesOf(options.base);
  const heads: Layer[] = [];
  const rebased = mapLayers(tuned, (layer) => {
    const weight = baseAt(layer);
    return weight === layer.weight ? layer.node : { ...layer.node, weight };
  });
  const merged = mapAdapted(rebased, "merge adapters", (layer) => {
    if (isTied(layer, layers)) heads.push(layer);
    return mergedNode(layer, options);
  });
  const [head] = heads;
  if (!head) return merged;
  if (options.untie) return { ...merged, ...headNode(tuned, head) };
  throw new TreeError(
    `Cannot merge the adapter at ${head.path}: its table is the output head's weight too, which has no adapter; pass untie: true for a head of its own, and set tie_word_embeddings to false`,
  );
}

/** The weight of a layer that its adapter is merged into. */
function basesOf(base: MergeOptions["base"]): (layer: Layer) => Weight {
  if (base === "quantised") return ({ weight }) => weight;
  const others = new Map(
    base === undefined
      ? []
      : layersOf(base).map(({ path, weight }) => [path, weight]),
  );
  return ({ path, node, weight, shape }) => {
    if (!isQuantized(weight)) return weight;
    const other = others.get(path);
    if (base === undefined) {
      if (!node.lora) return weight;
      throw new TreeError(
        `Cannot merge the adapter at ${path}: its weight is ${
          formatWeight(weight)
        }, so say which base is meant, by base: "quantised" or the parameters that it was made of`,
      );
    }
    if (other instanceof Tensor && other.shape.join() === shape.join()) {
      return other;
    }
    throw new TreeError(
      `Cannot merge the adapter at ${path}: the base has ${
        other ? formatWeight(other) : "nothing"
      } there, expected f32[${shape.join(", ")}]`,
    );
  };
}

function mergedNode(layer: AdaptedLayer, options: MergeOptions): Node {
  const { node, path, lora } = layer;
  const parts = adaptersIn(lora).map(partsOf).filter((list) => list.length > 0);
  if (parts.flat().some((part) => part?.rows || part?.a.shape.length === 3)) {
    throw new TreeError(
      `Cannot merge adapters: the ones at ${path} are a stack, of which each row of a batch has one; merge one of them`,
    );
  }
  const bias = node.bias as Tensor | null | undefined;
  const own = inForce<Weight, typeof bias>({
    weight: layer.weight,
    bias,
    lora,
  });
  const kind = kindOf(layer, options.fanInFanOut);
  const weight = scope(() => {
    if (parts.length === 0) return alike(own.weight, layer.weight);
    const base = oriented(dense(own.weight), kind);
    const sum = parts.map((list) => updateOf(list, base))
      .reduce((sum, update) => sum.add(update), base);
    return alike(oriented(sum, kind), layer.weight);
  });
  return {
    ...bare(node),
    weight,
    ...("bias" in node && { bias: bias ? alike(own.bias!, bias) : bias }),
  };
}

/** What was computed in f32 as it is stored, rounded once. */
function alike(value: Weight, own: Weight): Weight {
  return value instanceof Tensor && own instanceof Tensor &&
      value.dtype !== own.dtype
    ? value.cast(own.dtype)
    : value;
}

/** The output head that a tied embedding was, where decoders look for it. Encoders have tied heads alone. */
function headNode(tree: Tree, { path, weight }: Layer): Node {
  const { cls, lm_head, vocab_projector } = tree as Node;
  if (!cls && !lm_head && !vocab_projector) return { lm_head: { weight } };
  throw new TreeError(
    `Cannot merge the adapter at ${path}: its table is the output head's weight too, and the head of this model can have no other`,
  );
}

/** What merging changes. */
export interface MergeCheck {
  /** Largest difference between an output with adapters and the one with merged weights. */
  readonly largest: number;
  /** The same in units of the largest output. */
  readonly relative: number;
}

/**
 * How far the outputs of a model with merged weights are from those with adapters, for `apply` that computes outputs from
 * parameters. Throws as `mergeAdapters` does.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { verifyMerge } from "cotan/lora";
 * import { linear } from "cotan/nn";
 *
 * const layer = {
 *   weight: tensor([[1, 2]]),
 *   lora: { a: tensor([[1, 1]]), b: tensor([[3]]), scale: tensor(2) },
 * };
 * const { largest } = await verifyMerge((p) => linear(p, tensor([[1, 1]])), layer);
 * assertEquals(largest, 0);
 * ```
 */
export async function verifyMerge<T extends Tree>(
  apply: (params: T) => Tensor,
  tuned: T,
  options: MergeOptions = {},
): Promise<MergeCheck> {
  const [gap, size] = scope(() => {
    const before = apply(tuned), after = apply(mergeAdapters(tuned, options));
    return [before.sub(after).abs().max(), before.abs().max()];
  }) as [Tensor, Tensor];
  const [largest, most] = await Promise.all([gap.item(), size.item()]);
  for (const { leaf } of trees.leaves([gap, size])) leaf.dispose();
  return { largest, relative: most === 0 ? 0 : largest / most };
}
