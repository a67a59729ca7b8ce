/**
 * Clipping of gradients by their norm, or element by element.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { scope, type Tensor, type Tree, tree, zeros } from "../../core/mod.ts";
import { checked } from "./checks.ts";
import type { Optimizer, Update } from "./optimizer.ts";

/**
 * The 2-norm of all elements of a tree together.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { globalNorm } from "cotan/nn";
 *
 * assertEquals(await globalNorm({ a: tensor([3]), b: [tensor(4)] }).item(), 5);
 * ```
 */
export function globalNorm(values: Tree): Tensor {
  return scope(() =>
    tree.leaves(values)
      .map(({ leaf }) => leaf.square().sum())
      .reduce((total, square) => total.add(square), zeros([]))
      .sqrt()
  );
}

/**
 * Gradients scaled down, all by one factor, where their norm is above a limit (Pascanu et al., arXiv 1211.5063).
 *
 * The factor is min(1, limit / (norm + 1e-6)), as in torch.nn.utils.clip_grad_norm_. A norm that is not finite gives
 * gradients that are not finite, so that it does not pass unseen.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { clipByGlobalNorm } from "cotan/nn";
 *
 * const grads = { w: tensor([3, 4]) };
 * const { updates } = clipByGlobalNorm(1).update(grads, null, grads);
 * assertAlmostEquals((await updates.w.data())[0]!, 0.6, 1e-6);
 * ```
 */
export function clipByGlobalNorm(limit: number): Optimizer<null> {
  if (!(limit > 0)) {
    throw new RangeError(`Cannot clip to norm ${limit}: it must be positive`);
  }
  return checked({
    init: () => null,
    update<P extends Tree>(grads: P): Update<P, null> {
      const factor = globalNorm(grads).add(1e-6).reciprocal().mul(limit)
        .minimum(1);
      return { updates: tree.map((g) => g.mul(factor), grads), state: null };
    },
  });
}

/**
 * Gradients whose elements are kept between -limit and limit, as by torch.nn.utils.clip_grad_value_.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { clipByValue } from "cotan/nn";
 *
 * const grads = { w: tensor([3, -0.5]) };
 * const { updates } = clipByValue(1).update(grads, null, grads);
 * assertEquals(await updates.w.toArray(), [1, -0.5]);
 * ```
 */
export function clipByValue(limit: number): Optimizer<null> {
  if (!(limit > 0)) {
    throw new RangeError(`Cannot clip to value ${limit}: it must be positive`);
  }
  return checked({
    init: () => null,
    update<P extends Tree>(grads: P): Update<P, null> {
      return {
        updates: tree.map((g) => g.clip(-limit, limit), grads),
        state: null,
      };
    },
  });
}
