/**
 * The low-rank adapters of a tree, one by one: those of whole weights, of slices, and by name.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { Tensor, type Tree, TreeError } from "../core/mod.ts";
import { mapLayers, type Node } from "./layers.ts";

/** The leaves of one adapter. */
export type LoraNode = Node & {
  /** [R, in]. */
  readonly a: Tensor;
  /** [out, R]. */
  readonly b: Tensor;
  /** Scalar. */
  readonly scale: Tensor;
};

/**
 * The tree with other adapters in the places of adapters; null takes one out of the change. Throws `TreeError` where there
 * is no adapter, `what` being what was to be done.
 */
export function mapLoras<T extends Tree>(
  tree: T,
  what: string,
  change: (lora: LoraNode, path: string) => Node,
): T {
  let count = 0;
  const visit = (node: Tree, path: string): Tree => {
    if (node === null || node === undefined || node instanceof Tensor) {
      return node;
    }
    if (Array.isArray(node)) {
      return node.map((child, i) => visit(child, `${path}.${i}`));
    }
    const record = node as Node;
    if ("scale" in record) {
      count++;
      return change(checked(record, path, what), path);
    }
    return Object.fromEntries(
      Object.entries(record).map(([key, child]) => [
        key,
        visit(child, `${path}.${key}`),
      ]),
    );
  };
  const changed = mapLayers(tree, ({ path, node }) => {
    const { lora } = node;
    if (lora === null || lora === undefined) return node;
    return {
      ...node,
      lora: visit(lora, path === "" ? "lora" : `${path}.lora`),
    };
  });
  if (count > 0) return changed;
  throw new TreeError(`Cannot ${what}: no layer of the tree has an adapter`);
}

function checked(node: Node, path: string, what: string): LoraNode {
  if ([node.a, node.b, node.scale].every((leaf) => leaf instanceof Tensor)) {
    return node as LoraNode;
  }
  throw new TreeError(
    `Cannot ${what}: the adapter at ${path} lacks a, b or scale; merge the trainable and the frozen half first, by tree.merge`,
  );
}
