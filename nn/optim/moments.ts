/**
 * Running averages, and the correction of those that start at 0.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Tensor } from "../../core/mod.ts";

/** b m + (1 - b) x. */
export function average(m: Tensor, b: number, x: Tensor): Tensor {
  return m.mul(b).add(x.mul(1 - b));
}

/** 1 - bᵗ as -expm1(t log b), which loses nothing in float32 for b near 1 and small t. */
export function correction(t: Tensor, b: number): Tensor {
  return b === 0 ? t.mul(0).add(1) : t.mul(Math.log(b)).expm1().neg();
}
