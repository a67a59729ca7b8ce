/**
 * Dropout, from a key.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  random,
  scope,
  sub,
  type Tensor,
  type TensorLike,
  where,
} from "../core/mod.ts";

/** Options of `dropout`. */
export interface DropoutOptions {
  /** Probability that an element becomes 0, from 0 up to 1, which is left out; a scalar tensor may be traced. */
  readonly rate: TensorLike;
  /** Key of the draw, used once; without one x is returned as it is, which is what evaluation wants. */
  readonly key?: Tensor | null;
}

/**
 * x with elements set to 0 at a rate, and the others divided by 1 - rate, so that the mean stays (Srivastava et al. 2014).
 *
 * The same key drops the same elements on every backend. Throws `RangeError` for a number outside [0, 1).
 *
 * @example
 * ```ts
 * import { assert } from "@std/assert";
 * import { ones, random } from "cotan";
 * import { dropout } from "cotan/nn";
 *
 * const y = await dropout(ones([100]), { rate: 0.5, key: random.key(1) }).data();
 * assert(y.every((v) => v === 0 || v === 2));
 * ```
 */
export function dropout(x: Tensor, options: DropoutOptions): Tensor {
  const { rate, key } = options;
  if (typeof rate === "number" && !(rate >= 0 && rate < 1)) {
    throw new RangeError(
      `Cannot drop at rate ${rate}: it must be at least 0 and below 1`,
    );
  }
  if (rate === 0 || !key) return x;
  return scope(() => {
    const share = typeof rate === "number" ? 1 - rate : sub(1, rate);
    const kept = random.bernoulli(key, share, x.shape);
    return where(kept, x.div(share), 0);
  });
}
