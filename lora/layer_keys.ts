/**
 * Random keys for the layers of a tree.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { random, type Tensor, type Tree } from "../core/mod.ts";
import { layersOf } from "./layers.ts";

/**
 * A key for each layer, by its place among all layers of the tree, so that adapting one more leaves the others as they
 * are.
 */
export function layerKeys(
  tree: Tree,
  key: Tensor,
): (path: string) => Tensor {
  const order = layersOf(tree).map(({ path }) => path).sort();
  const places = new Map(order.map((path, i) => [path, i]));
  return (path) => random.foldIn(key, places.get(path)!);
}
