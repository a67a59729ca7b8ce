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
  tree as trees,
  TreeError,
} from "../core/mod.ts";
import {
  isHead,
  kindOf,
  type Layer,
  layersOf,
  whyNotAdaptable,
} from "./layers.ts";

/** Which layers an adapter goes to. */
export interface TargetOptions {
  /**
   * The layers: names, globs or RegExps over their paths as in any selector, or "all-linear" for every linear layer but
   * the output head. Linear layers, GPT-2's Conv1D and embeddings can have adapters.
   */
  readonly targets: Selector;
  /** Layers that are none of them. */
  readonly exclude?: Selector;
  /** The only blocks whose layers are targets, by number; a target that is a whole path is one in any block. */
  readonly layersToTransform?: number | readonly number[];
  /** Names of the lists of blocks, such as "layers" or "h", or expressions for them; any when absent. */
  readonly layersPattern?: string | readonly string[];
}

/**
 * The layers that options take, in the tree's order. Throws `TreeError` where a pattern takes none, or one that can have
 * no adapter, and where a block that is asked for has no target.
 */
export function selectLayers(tree: Tree, options: TargetOptions): Layer[] {
  const { targets, exclude, layersToTransform, layersPattern = [] } = options;
  const layers = layersOf(tree);
  const selects = targets === "all-linear"
    ? isIn(linearPaths(layers))
    : selectorOf(targets, layers);
  const excludes = exclude === undefined
    ? () => false
    : selectorOf(exclude, layers);
  const found = layers.filter((layer) => selects(layer) && !excludes(layer));
  const chosen = layersToTransform === undefined ? found : inBlocks(
    found,
    targets,
    [layersToTransform].flat(),
    [layersPattern].flat(),
  );
  if (chosen.length === 0) {
    throw new TreeError(
      `Cannot adapt: the targets take none of the ${layers.length} layers`,
    );
  }
  for (const layer of chosen) {
    const why = whyNotAdaptable(layer);
    if (why !== null) throw new TreeError(`Cannot adapt ${layer.path}: ${why}`);
  }
  return chosen;
}

/** Which layers a selector takes; with `below`, also those below nodes that it names. */
export function selectorOf(
  selector: Selector,
  layers: readonly Layer[],
  below = false,
): (layer: Layer) => boolean {
  const paths = layers.map(({ path }) => path);
  const selects = compileSelector(selector, paths, { what: "layer", below });
  return ({ path, weight }) => selects(path, trees.leaves(weight)[0]!.leaf);
}

function inBlocks(
  layers: readonly Layer[],
  targets: Selector,
  blocks: readonly number[],
  lists: readonly string[],
): Layer[] {
  const numbers = new Map(
    layers.map((layer) => [layer, blockOf(layer.path, lists)]),
  );
  for (const block of blocks) {
    if ([...numbers.values()].includes(block)) continue;
    const known = [...new Set(numbers.values())].filter((n) => n !== undefined);
    throw new TreeError(
      `Cannot adapt block ${block}: the targets take none of its layers, but those of blocks ${
        known.join(", ") || "without a number"
      }`,
    );
  }
  const isExact = ({ path }: Layer) => [targets].flat().includes(path);
  return layers.filter((layer) =>
    isExact(layer) || blocks.includes(numbers.get(layer)!)
  );
}

/**
 * The number of the block that a layer is in, as PEFT finds it: the first in its path below such a list. A second one, as
 * of experts, is no block's.
 */
export function blockOf(
  path: string,
  lists: readonly string[],
  compile: (source: string) => RegExp = (source) =>
    new RegExp(`^(?:${source})$`),
): number | undefined {
  const heads = lists.length > 0
    ? lists.map((list) => `(?:.*?\\.)?${list}`)
    : [".*?\\.[^.]*"];
  const found = heads.map((head) =>
    compile(`${head}\\.(?<block>\\d+)\\..*`).exec(path)?.groups?.block
  ).find((number) => number !== undefined);
  return found === undefined ? undefined : Number(found);
}

/** Whether a path fits a key of PEFT's rank_pattern and alpha_pattern: from any of its segments to the end. */
export function fitsPattern(
  path: string,
  key: string,
  compile: (source: string) => RegExp = (source) =>
    new RegExp(`^(?:${source})$`),
): boolean {
  return compile(`(?:.*\\.)?(?:${key})`).test(path);
}

/** Paths of every linear layer but the output head. */
export function linearPaths(layers: readonly Layer[]): string[] {
  return layers.flatMap((layer) => {
    const isLinear = ["linear", "conv1D"].includes(kindOf(layer));
    return isLinear && !isHead(layer) ? [layer.path] : [];
  });
}

function isIn(paths: readonly string[]): (layer: Layer) => boolean {
  const set = new Set(paths);
  return ({ path }) => set.has(path);
}
