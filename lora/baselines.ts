/**
 * Selectors of what the baselines of the LoRA paper train: biases, or the last blocks.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { type Tree, tree as trees, TreeError } from "../core/mod.ts";

/**
 * Whether a path is that of a bias: the selector of BitFit (Ben Zaken et al., arXiv 2106.10199). A new head is trained as
 * well: take it by a selector beside this.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tree, zeros } from "cotan";
 * import { isBias } from "cotan/lora";
 *
 * const params = { fc: { weight: zeros([2, 2]), bias: zeros([2]) } };
 * const [trainable] = tree.partition(params, isBias);
 * assertEquals(tree.leaves(trainable).map(({ path }) => path), ["fc.bias"]);
 * ```
 */
export function isBias(path: string): boolean {
  return /(?:^|\.)bias$/.test(path);
}

/** A block in a list of blocks: `transformer.h.3.`, `model.layers.3.`, `bert.encoder.layer.3.`. */
const BLOCK = /^((?:.*\.)?(?:h|layers?|blocks?))\.(\d+)\./;

/**
 * The selector of the last `count` blocks of a model and of what stands behind them: the last norm, a pooler, the head.
 *
 * Throws `TreeError` where there are no blocks, and `RangeError` for a count that is not from 0 to their number.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tree, zeros } from "cotan";
 * import { topLayers } from "cotan/lora";
 *
 * const params = { wte: zeros([2]), h: [{ w: zeros([2]) }, { w: zeros([2]) }], ln_f: zeros([2]) };
 * const [trainable] = tree.partition(params, topLayers(params, 1));
 * assertEquals(tree.leaves(trainable).map(({ path }) => path), ["h.1.w", "ln_f"]);
 * ```
 */
export function topLayers(
  params: Tree,
  count: number,
): (path: string) => boolean {
  const paths = trees.leaves(params).map(({ path }) => path);
  const first = paths.findIndex((path) => BLOCK.test(path));
  const list = BLOCK.exec(paths[first] ?? "")?.[1];
  if (list === undefined) {
    throw new TreeError(
      `Cannot take the last ${count} blocks: no path of the ${paths.length} leaves is that of a block, such as h.0`,
    );
  }
  const numbers = paths.flatMap((path) => {
    const found = BLOCK.exec(path);
    return found?.[1] === list ? [Number(found[2])] : [];
  });
  const blocks = Math.max(...numbers) + 1;
  if (!Number.isInteger(count) || count < 0 || count > blocks) {
    throw new RangeError(
      `Cannot take the last ${count} blocks: there are ${blocks}`,
    );
  }
  const before = new Set(paths.slice(0, first));
  return (path) => {
    const found = BLOCK.exec(path);
    if (found?.[1] === list) return Number(found[2]) >= blocks - count;
    return !before.has(path);
  };
}
