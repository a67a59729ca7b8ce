/**
 * Optimizers for parts of a tree.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  compileSelector,
  format,
  type Selector,
  type Tree,
  tree,
  TreeError,
} from "../../core/mod.ts";
import { at, checked } from "./checks.ts";
import type { Optimizer, Update } from "./optimizer.ts";

/** A part of a tree and what optimizes it. */
export type OptimizerGroup = readonly [
  selector: Selector,
  optimizer: Optimizer,
];

/**
 * One optimizer of several, each for the leaves that its selector takes, and one for all others. What an optimizer sees
 * has holes elsewhere, so a norm that it clips to is that of its own leaves. The state is the list of theirs.
 *
 * A leaf that two selectors take, or none where there is no optimizer for the rest, throws `TreeError`; so does a
 * pattern that matches nothing.
 *
 * LoRA+ (Hayou et al., arXiv 2402.12354) is `partitioned([["lora.b", adamw({ learningRate: ratio * rate })]],
 * adamw({ learningRate: rate }))`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { partitioned, sgd } from "cotan/nn";
 *
 * const optimizer = partitioned([["lora.b", sgd({ learningRate: 16 })]], sgd({ learningRate: 1 }));
 * const params = { q_proj: { lora: { a: tensor([1]), b: tensor([1]) } } };
 * const { updates } = optimizer.update(params, optimizer.init(params), params);
 * assertEquals(await updates.q_proj.lora.a.toArray(), [-1]);
 * assertEquals(await updates.q_proj.lora.b.toArray(), [-16]);
 * ```
 */
export function partitioned(
  groups: readonly OptimizerGroup[],
  otherwise?: Optimizer,
): Optimizer<readonly Tree[]> {
  const optimizers = groups.map(([, optimizer]) => optimizer);
  if (otherwise) optimizers.push(otherwise);

  /** Splits trees like the parameters in one part for each optimizer. */
  function splitter(params: Tree): <T extends Tree>(t: T) => T[] {
    const leaves = tree.leaves(params);
    const paths = leaves.map(({ path }) => path);
    const tests = groups.map(([selector]) => compileSelector(selector, paths));
    const owners = new Map(leaves.map(({ path, leaf }) => {
      const takers = tests.flatMap((test, i) => test(path, leaf) ? [i] : []);
      if (takers.length === 0 && otherwise) takers.push(groups.length);
      if (takers.length === 1) return [path, takers[0]!];
      throw new TreeError(
        `Cannot give ${format(leaf)}${at(path)} to one optimizer: ${
          takers.length === 0
            ? "no selector takes it; name an optimizer for all others"
            : `selectors ${takers.join(" and ")} take it; let one`
        }`,
      );
    }));
    return (t) =>
      optimizers.map((_, i) =>
        tree.partition(t, (path) => owners.get(path) === i)[0]
      );
  }

  return checked({
    init(params) {
      const parts = splitter(params)(params);
      return optimizers.map((optimizer, i) => optimizer.init(parts[i]));
    },
    update<P extends Tree>(
      grads: P,
      state: readonly Tree[],
      params: P,
    ): Update<P, readonly Tree[]> {
      const split = splitter(params);
      const of = split(grads), at = split(params);
      const outs = optimizers.map((optimizer, i) =>
        optimizer.update(of[i]!, state[i], at[i]!)
      );
      return {
        updates: outs.map(({ updates }) => updates).reduce(tree.merge),
        state: outs.map(({ state }) => state),
      };
    },
  });
}
