/**
 * What an optimizer is: a pair of pure functions over trees.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { type Tensor, type Tree, tree, zeros } from "../../core/mod.ts";

/** What to add to the parameters, and the state for the next step. */
export type Update<P extends Tree, S extends Tree> = {
  /** A tree like the parameters, to be added to them. */
  readonly updates: P;
  /** The next state, of the structure of the one before. */
  readonly state: S;
};

/**
 * An optimizer, or a step of one: a transformation of gradients that carries a state S, a tree.
 *
 * Both functions keep the type of the parameters; holes in them stay holes in everything.
 */
export interface Optimizer<S extends Tree = Tree> {
  /** The state before the first step. */
  init(params: Tree): S;
  /** Updates from gradients. `grads` and `params` have the same leaves. */
  update<P extends Tree>(grads: P, state: S, params: P): Update<P, S>;
}

/** A rate that depends on the number of updates done before, an i32 or f32 scalar that may be traced; gives f32. */
export type Schedule = (count: Tensor) => Tensor;

/**
 * The parameters with updates added.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { applyUpdates } from "cotan/nn";
 *
 * const { w } = applyUpdates({ w: tensor([1, 2]) }, { w: tensor([0.5, -2]) });
 * assertEquals(await w.toArray(), [1.5, 0]);
 * ```
 */
export function applyUpdates<P extends Tree>(params: P, updates: P): P {
  return tree.map((p, u) => p.add(u!), params, updates);
}

/** A tree of zeros like another. */
export function zerosLike<P extends Tree>(params: P): P {
  return tree.map((p) => zeros(p.shape), params);
}
