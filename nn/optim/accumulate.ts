/**
 * Steps on the mean gradient of several micro-batches.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { type Tensor, type Tree, tree, where, zeros } from "../../core/mod.ts";
import { checked } from "./checks.ts";
import { type Optimizer, type Update, zerosLike } from "./optimizer.ts";

/** State of `accumulate`. */
export type AccumulateState<S extends Tree> = {
  /** Gradients summed up since the last step, i32. */
  readonly count: Tensor;
  /** Their sum, a tree like the parameters. */
  readonly sum: Tree;
  /** State of the optimizer. */
  readonly inner: S;
};

/**
 * An optimizer that steps at every `every`-th call, on the mean of the gradients since its last step. In between updates
 * are -0, the one number that added to parameters leaves every bit of them, and the state of the inner optimizer, its
 * count too, stays as it is.
 *
 * All is in one program; what the inner optimizer computes in between is thrown away. To sum up inside one step instead,
 * see `meanGradients`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { accumulate, applyUpdates, sgd } from "cotan/nn";
 *
 * const optimizer = accumulate(sgd({ learningRate: 1 }), 2);
 * let params = { w: tensor([5]) }, state = optimizer.init(params);
 * for (const [grad, after] of [[1, 5], [3, 3]] as const) {
 *   const out = optimizer.update({ w: tensor([grad]) }, state, params);
 *   params = applyUpdates(params, out.updates);
 *   state = out.state;
 *   assertEquals(await params.w.toArray(), [after]);
 * }
 * ```
 */
export function accumulate<S extends Tree>(
  optimizer: Optimizer<S>,
  every: number,
): Optimizer<AccumulateState<S>> {
  if (!(Number.isInteger(every) && every > 0)) {
    throw new RangeError(
      `Cannot accumulate ${every} gradients: it must be an integer from 1`,
    );
  }
  return checked({
    init: (params) => ({
      count: zeros([], { dtype: "i32" }),
      sum: zerosLike(params),
      inner: optimizer.init(params),
    }),
    update<P extends Tree>(
      grads: P,
      { count, sum, inner }: AccumulateState<S>,
      params: P,
    ): Update<P, AccumulateState<S>> {
      const next = count.add(1), isDue = next.eq(every);
      const total = tree.map((g, s) => s!.add(g), grads, sum);
      const mean = tree.map((g) => g.div(every), total);
      const out = optimizer.update(mean, inner, params);
      return {
        updates: tree.map((u) => where(isDue, u, -0), out.updates),
        state: {
          count: where(isDue, 0, next),
          sum: tree.map((s) => where(isDue, 0, s), total),
          inner: tree.map((s, old) => where(isDue, s, old!), out.state, inner),
        },
      };
    },
  });
}
