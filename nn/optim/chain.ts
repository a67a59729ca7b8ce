/**
 * Optimizers one after another.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { scope, type Tree } from "../../core/mod.ts";
import type { Optimizer, Update } from "./optimizer.ts";

/**
 * One optimizer of several: the updates of each are the gradients of the next. The state is the list of theirs.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { chain, clipByGlobalNorm, sgd } from "cotan/nn";
 *
 * const optimizer = chain(clipByGlobalNorm(1), sgd({ learningRate: 0.5 }));
 * const params = { w: tensor([1, 1]) }, grads = { w: tensor([3, 4]) };
 * const { updates } = optimizer.update(grads, optimizer.init(params), params);
 * assertAlmostEquals((await updates.w.data())[1]!, -0.4, 1e-6);
 * ```
 */
export function chain<S extends readonly Tree[]>(
  ...optimizers: { readonly [K in keyof S]: Optimizer<S[K]> }
): Optimizer<S> {
  const list = optimizers as readonly Optimizer[];
  return {
    init: (params) => list.map((o) => o.init(params)) as readonly Tree[] as S,
    update<P extends Tree>(grads: P, state: S, params: P): Update<P, S> {
      return scope(() => {
        let updates = grads;
        const next = list.map((optimizer, i) => {
          const out = optimizer.update(updates, state[i], params);
          updates = out.updates;
          return out.state;
        });
        return { updates, state: next as readonly Tree[] as S };
      });
    },
  };
}
