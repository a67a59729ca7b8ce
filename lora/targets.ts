/**
 * Targets: which layers an adapter goes to.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  compileSelector,
  type Selector,
  type Tree,
  TreeError,
} from "../core/mod.ts";
import { type Layer, layersOf, whyNotLinear } from "./layers.ts";

/** Output heads in the models of Hugging Face. A tied head has no node of its own. */
const HEAD =
  /^(?:lm_head|score|classifier|qa_outputs|cls\.predictions\.decoder)(?:\.|$)/;

/**
 * Paths of the layers that a selector takes, in the tree's order. Throws `TreeError` where one of its patterns takes
 * none, or one that is no linear layer.
 */
export function selectLayers(tree: Tree, targets: Selector): string[] {
  const layers = layersOf(tree);
  const paths = layers.map(({ path }) => path);
  const selects = targets === "all-linear"
    ? isIn(linearPaths(layers))
    : compileSelector(targets, paths, { what: "layer", below: false });
  const chosen = layers.filter(({ path, weight }) => selects(path, weight));
  if (chosen.length === 0) {
    throw new TreeError(
      `Cannot adapt: the targets take none of the ${layers.length} layers`,
    );
  }
  for (const layer of chosen) {
    const why = whyNotLinear(layer);
    if (why !== null) throw new TreeError(`Cannot adapt ${layer.path}: ${why}`);
  }
  return chosen.map(({ path }) => path);
}

/** Paths of every linear layer but the output head. */
export function linearPaths(layers: readonly Layer[]): string[] {
  return layers.flatMap((layer) =>
    whyNotLinear(layer) === null && !HEAD.test(layer.path) ? [layer.path] : []
  );
}

function isIn(paths: readonly string[]): (path: string) => boolean {
  const set = new Set(paths);
  return (path) => set.has(path);
}
