/**
 * The mean loss and gradient of micro-batches, in one step.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  scan,
  scope,
  ShapeError,
  type Tensor,
  type Tree,
  tree,
  valueAndGrad,
  type ValueAndGrads,
  zeros,
} from "../../core/mod.ts";
import { zerosLike } from "./optimizer.ts";

/**
 * Like `valueAndGrad` of the mean loss over micro-batches, which follow each other along the first axis of every further
 * argument: a loop over them that needs the memory of one. What is no batch, such as frozen parameters, `loss` closes
 * over.
 *
 * The loss and its gradient are means over micro-batches, which are those over rows where micro-batches weigh the same.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { type Tensor, tensor } from "cotan";
 * import { meanGradients } from "cotan/nn";
 *
 * const loss = (p: { w: Tensor }, x: Tensor) => x.mul(p.w).mean();
 * const { value, grads } = meanGradients(loss)({ w: tensor(2) }, tensor([[1, 3], [5, 7]]));
 * assertEquals(await value.item(), 8);
 * assertEquals(await grads.w.item(), 4);
 * ```
 */
export function meanGradients<P extends Tree, A extends readonly Tree[]>(
  loss: (params: P, ...batch: A) => Tensor,
): (params: P, ...batches: A) => ValueAndGrads<P> {
  return (params, ...batches) =>
    scope(() => {
      const count = tree.leaves(batches)[0]?.leaf.shape[0] ?? 0;
      if (count === 0) {
        throw new ShapeError(
          "Cannot take the mean of no gradients: the arguments after the parameters must have micro-batches along their first axis",
        );
      }
      const start = { value: zeros([]), grads: zerosLike(params) };
      const { carry } = scan(
        (sum: typeof start, batch: A) => {
          const { value, grads } = valueAndGrad(loss)(params, ...batch);
          return {
            carry: {
              value: sum.value.add(value),
              grads: tree.map((s, g) => s.add(g!), sum.grads, grads),
            },
            y: null,
          };
        },
        start,
        batches,
      );
      return tree.map((t) => t.div(count), carry);
    });
}
