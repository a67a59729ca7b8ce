/**
 * Weight decay on the leaves that a mask takes.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  compileSelector,
  type Selector,
  type Tensor,
  type Tree,
  tree,
} from "../../core/mod.ts";

/** Options of optimizers that decay weights. */
export interface DecayOptions {
  /** How strongly parameters are pulled towards 0; 0, not at all, but 0.01 for `adamw`. */
  readonly weightDecay?: number;
  /** Parameters that decay; all when absent. */
  readonly mask?: Selector;
}

/** A tree with `weightDecay` times the parameter added on the leaves that the mask takes. */
export function withDecay<P extends Tree>(
  values: P,
  params: P,
  { weightDecay = 0, mask = () => true }: DecayOptions,
  scaled: (p: Tensor) => Tensor = (p) => p,
): P {
  if (weightDecay === 0) return values;
  const leaves = tree.leaves(params);
  const decays = compileSelector(mask, leaves.map(({ path }) => path));
  const parts = new Map(leaves.map(({ path, leaf }) => [path, leaf]));
  const list = tree.leaves(values).map(({ path, leaf }) => {
    const p = parts.get(path)!;
    return decays(path, p) ? leaf.add(scaled(p).mul(weightDecay)) : leaf;
  });
  return tree.fromLeaves(values, list);
}
