/**
 * The low-rank adapters of a tree, one by one: those of whole weights, of slices, and by name.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { Tensor, type Tree, TreeError } from "../core/mod.ts";
import {
  type Adapter,
  type Adapters,
  isNamed,
  type Lora,
} from "../nn/adapter_forms.ts";
import { type Layer, layersOf, mapLayers, type Node } from "./layers.ts";

/** A layer that has adapters. */
export interface AdaptedLayer extends Layer {
  /** What the layer carries. */
  readonly lora: Adapters;
}

/** The adapters that a layer carries, none missing a leaf, or null. */
export function adaptersOf(layer: Layer, what: string): Adapters | null {
  const { lora } = layer.node;
  if (lora === null || lora === undefined) return null;
  for (const one of records(lora)) {
    if (Object.values(one).every((leaf) => leaf instanceof Tensor)) continue;
    throw new TreeError(
      `Cannot ${what}: the adapter at ${layer.path} lacks ${
        "a" in one ? "a, b or scale" : "its tensors"
      }; merge the trainable and the frozen half first, by tree.merge`,
    );
  }
  return lora as Adapters;
}

/** The records of tensors in what a node carries. */
function* records(tree: Tree): Iterable<Node> {
  if (tree === null || tree === undefined || tree instanceof Tensor) return;
  const children = Object.entries(tree as Node);
  const leaves = children.filter(([key, child]) =>
    child instanceof Tensor || child === null && !/^\d+$/.test(key)
  );
  if (leaves.length > 0) yield Object.fromEntries(leaves);
  for (const [, child] of children) yield* records(child);
}

/** Layers of a tree that have adapters; throws `TreeError` where there is none, `what` being what was to be done. */
export function adaptedLayers(tree: Tree, what: string): AdaptedLayer[] {
  const found = layersOf(tree).flatMap((layer) => {
    const lora = adaptersOf(layer, what);
    return lora ? [{ ...layer, lora }] : [];
  });
  if (found.length > 0) return found;
  throw new TreeError(`Cannot ${what}: no layer of the tree has an adapter`);
}

/** The tree with other nodes in the places of layers that have adapters; throws as `adaptedLayers` does. */
export function mapAdapted<T extends Tree>(
  tree: T,
  what: string,
  change: (layer: AdaptedLayer) => Node,
): T {
  adaptedLayers(tree, what);
  return mapLayers(tree, (layer) => {
    const lora = adaptersOf(layer, what);
    return lora ? change({ ...layer, lora }) : layer.node;
  });
}

/**
 * The tree with other low-rank adapters in the places of those of given names, or of all. Copies stay. Throws as
 * `adaptedLayers` does.
 */
export function mapLoras<T extends Tree>(
  tree: T,
  what: string,
  change: (lora: Lora, path: string, layer: Layer) => Lora,
  names?: readonly string[],
): T {
  const visit = (node: Tree, path: string, layer: Layer): Tree => {
    if (node === null || node === undefined || node instanceof Tensor) {
      return node;
    }
    if (Array.isArray(node)) {
      return node.map((child, i) => visit(child, `${path}.${i}`, layer));
    }
    if ("a" in node) return change(node as unknown as Lora, path, layer);
    return Object.fromEntries(
      Object.entries(node).map(([key, child]) => [
        key,
        names && isNamed(node as Adapters) && !names.includes(key)
          ? child
          : visit(child, `${path}.${key}`, layer),
      ]),
    );
  };
  return mapAdapted(tree, what, (layer) => {
    const path = layer.path === "" ? "lora" : `${layer.path}.lora`;
    return { ...layer.node, lora: visit(layer.lora as Tree, path, layer) };
  });
}

/** The node without adapters. */
export function bare({ lora: _, ...node }: Node): Node {
  return node;
}

/** A node that carries adapters. */
export function carrying(node: Node, lora: Adapters): Node {
  return { ...node, lora: lora as Tree };
}

/** A node with an adapter: its only one, or one beside others by name. */
export function withAdapter(
  node: Node,
  adapter: Adapter,
  name: string | undefined,
): Node {
  if (name === undefined) return carrying(node, adapter);
  const others = node.lora as Readonly<Record<string, Adapter>> | undefined;
  return carrying(node, { ...others, [name]: adapter } as Adapters);
}

/** Adapters of a layer by name; the one without a name stands under null. */
export function byName(adapters: Adapters): [string | null, Adapter][] {
  return isNamed(adapters) ? Object.entries(adapters) : [[null, adapters]];
}
