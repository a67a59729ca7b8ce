/**
 * The layers of a tree: its nodes that have a weight of their own, and the adapters that sit in them.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { format, Tensor, type Tree, TreeError } from "../core/mod.ts";

/** A record of a tree. */
export type Node = { readonly [key: string]: Tree };

/** A node that has a tensor `weight`. */
export interface Layer {
  /** Path of the node. */
  readonly path: string;
  /** The node. */
  readonly node: Node;
  /** Its weight. */
  readonly weight: Tensor;
}

/** The low-rank factors of a layer: the weight changes by scale · b a. */
export interface Adapter {
  /** [rank, in]. */
  readonly a: Tensor;
  /** [out, rank]. */
  readonly b: Tensor;
  /** Scalar. */
  readonly scale: Tensor;
}

/** A layer with its adapter. */
export interface AdaptedLayer extends Layer {
  /** The adapter. */
  readonly adapter: Adapter;
}

/** Layers of a tree, in its order. */
export function layersOf(tree: Tree): Layer[] {
  const found: Layer[] = [];
  mapLayers(tree, (layer) => {
    found.push(layer);
    return layer.node;
  });
  return found;
}

/** The tree with other nodes in the places of layers. What does not change is shared, not copied. */
export function mapLayers<T extends Tree>(
  tree: T,
  change: (layer: Layer) => Node,
): T {
  return mapAt(tree, "", change) as T;
}

function mapAt(
  tree: Tree,
  path: string,
  change: (layer: Layer) => Node,
): Tree {
  if (tree === null || tree === undefined || tree instanceof Tensor) {
    return tree;
  }
  const below = (key: string) => path === "" ? key : `${path}.${key}`;
  if (isList(tree)) {
    const out = tree.map((child, i) => mapAt(child, below(String(i)), change));
    return out.every((child, i) => child === tree[i]) ? tree : out;
  }
  const { weight } = tree;
  if (weight instanceof Tensor) return change({ path, node: tree, weight });
  const entries = Object.entries(tree).map(([key, child]) =>
    [key, mapAt(child, below(key), change)] as const
  );
  return entries.every(([key, child]) => child === tree[key])
    ? tree
    : Object.fromEntries(entries);
}

function isList(tree: Tree): tree is readonly Tree[] {
  return Array.isArray(tree);
}

/** Names of tables of embeddings in the models of Hugging Face; bias-less linear layers look alike. */
const EMBEDDING = /(?:^|\.)(?:w[tp]e|embed_\w+|\w*embeddings?)$/;

/** Why a layer is no linear layer, for an error, or null where it is one. */
export function whyNotLinear({ path, node, weight }: Layer): string | null {
  if (weight.shape.length !== 2) {
    return `its weight is ${
      format(weight)
    }, and that of a linear layer is [out, in]`;
  }
  if (!("bias" in node) && EMBEDDING.test(path)) {
    return `it is an embedding, and adapters of embeddings are not supported yet`;
  }
  return null;
}

/** Layers of a tree that have an adapter; throws `TreeError` where there is none, `what` being what was to be done. */
export function adaptedLayers(tree: Tree, what: string): AdaptedLayer[] {
  const found = layersOf(tree).flatMap((layer) => {
    const adapter = adapterOf(layer, what);
    return adapter ? [{ ...layer, adapter }] : [];
  });
  if (found.length > 0) return found;
  throw new TreeError(`Cannot ${what}: no layer of the tree has an adapter`);
}

/** The adapter of a layer, or null. */
export function adapterOf(
  { path, node }: Layer,
  what: string,
): Adapter | null {
  const { lora } = node;
  if (lora === null || lora === undefined) return null;
  const { a, b, scale } = lora as Partial<Adapter>;
  if (
    a instanceof Tensor && b instanceof Tensor && scale instanceof Tensor
  ) {
    return { a, b, scale };
  }
  throw new TreeError(
    `Cannot ${what}: the adapter at ${path} lacks a, b or scale; merge the trainable and the frozen half first, by tree.merge`,
  );
}
