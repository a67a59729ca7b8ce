/**
 * The layers of a tree: its nodes that have a weight of their own, and what kind of layer they are.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { type Shape, Tensor, type Tree } from "../core/mod.ts";
import {
  formatWeight,
  isQuantized,
  shapeOf,
  type Weight,
} from "../nn/quantized.ts";

/** A record of a tree. */
export type Node = { readonly [key: string]: Tree };

/** A node that has a `weight`, a tensor or a quantised one. */
export interface Layer {
  /** Path of the node. */
  readonly path: string;
  /** The node. */
  readonly node: Node;
  /** Its weight. */
  readonly weight: Weight;
  /** The weight's shape. */
  readonly shape: Shape;
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
  if (weight instanceof Tensor || isQuantized(weight)) {
    return change({ path, node: tree, weight, shape: shapeOf(weight) });
  }
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
const EMBEDDING = /(?:^|\.)(?:w[tp]e|embed_(?!out)\w+|\w*embeddings?)$/;

/** Tables of tokens that the output head of a decoder, or of an encoder, may be tied to. */
const DECODED = /(?:^|\.)(?:wte|embed_tokens|embed_in)$/;
const ENCODED = /(?:^|\.)word_embeddings$/;

/** What stands before the output head of an encoder of masked tokens, which is tied. */
const MASKED_HEAD = /^(?:cls\.predictions|lm_head|vocab_transform)(?:\.|$)/;

/** Output heads in the models of Hugging Face. A tied head has no node of its own. */
const HEAD =
  /^(?:lm_head|lm_head\.decoder|embed_out|cls\.predictions\.decoder|vocab_projector|score|qa_outputs|classifier(?:\..*)?)$/;

/** GPT-2's layers whose weight is [in, out]. */
const CONV1D = /(?:^|\.)(?:c_attn|q_attn|c_proj|c_fc)$/;

/** What a layer is: a linear one of weight [out, in] or [in, out], a table [in, out], or something of a vector, as norms. */
export type LayerKind = "linear" | "conv1D" | "embedding" | "vector";

/**
 * What a layer is, by the sizes of its bias or adapter where they tell, else by Hugging Face's names. `fanInFanOut` says
 * whether weights of other layers than embeddings are [in, out].
 */
export function kindOf(
  { path, node, shape }: Layer,
  fanInFanOut?: boolean,
): LayerKind {
  if (shape.length !== 2) return "vector";
  if (!("bias" in node) && EMBEDDING.test(path)) return "embedding";
  if (fanInFanOut !== undefined) return fanInFanOut ? "conv1D" : "linear";
  const [first, second] = shape;
  if (first !== second) {
    const out = node.bias instanceof Tensor ? node.bias.shape[0] : undefined;
    const into = factorIn(node.lora)?.shape.at(-1);
    if (out === second || into === first) return "conv1D";
    if (out === first || into === second) return "linear";
  }
  return CONV1D.test(path) ? "conv1D" : "linear";
}

/** A factor `a` of what a node carries as `lora`, if there is one. */
function factorIn(lora: Tree): Tensor | undefined {
  if (lora === null || lora === undefined || lora instanceof Tensor) return;
  if (!isList(lora) && lora.a instanceof Tensor) return lora.a;
  return Object.values(lora).map(factorIn).find((a) => a !== undefined);
}

/** Number of features that a layer takes and gives; of an embedding, what it takes are ids. */
export function sizesOf(
  { shape }: Layer,
  kind: LayerKind,
): { readonly into: number; readonly out: number } {
  const [first, second] = shape as [number, number];
  return kind === "linear"
    ? { into: second, out: first }
    : { into: first, out: second };
}

/** The weight of a layer as [out, in], or such a matrix as the layer keeps it. */
export function oriented(matrix: Tensor, kind: LayerKind): Tensor {
  return kind === "linear" ? matrix : matrix.transpose();
}

/** Why a layer can have no adapter, for an error, or null where it can. */
export function whyNotAdaptable({ weight, shape }: Layer): string | null {
  if (shape.length === 2) return null;
  return `its weight is ${
    formatWeight(weight)
  }, and that of a linear layer is [out, in]`;
}

/** Whether a layer is an output head. */
export function isHead({ path }: Layer): boolean {
  return HEAD.test(path);
}

/** Whether a layer is the table of tokens. */
export function isTokenTable({ path }: Layer): boolean {
  return DECODED.test(path) || ENCODED.test(path);
}

/**
 * Whether the table of an embedding is an output head's weight too: that of a decoder without a head of its own, or of an
 * encoder that has what stands before such a head.
 */
export function isTied({ path }: Layer, layers: readonly Layer[]): boolean {
  if (layers.some(isHead)) return false;
  return DECODED.test(path) ||
    ENCODED.test(path) && layers.some(({ path }) => MASKED_HEAD.test(path));
}
