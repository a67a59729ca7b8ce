/**
 * PiSSA: adapters that start as the principal part of the weight (Meng et al., arXiv 2404.02948).
 *
 * Letters: R rank; `in` and `out` are the features of a layer.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { concat, jit, maximum, random, type Tensor } from "../core/mod.ts";

/** Least length of a vector that is divided by it: less is nothing. */
const TINY = 1e-30;

/** How the principal part is found. */
export interface PrincipalOptions {
  /** R. */
  readonly rank: number;
  /** The adapter's scale s. */
  readonly scale: number;
  /** Products by W Wᵀ: more are nearer to the singular vectors, and needed where singular values are near each other. */
  readonly iterations: number;
}

/**
 * Factors a = √(S/s) Vᵀ [R, in] and b = U √(S/s) [out, R] of the R largest singular values of a weight [out, in].
 *
 * U is found by orthogonal iteration, as fast variants of PiSSA do; whatever it has come to, s b a is the projection
 * U Uᵀ W, so that the sum of the factors' part and the rest is the weight.
 */
export function principal(
  weight: Tensor,
  key: Tensor,
  { rank, scale, iterations }: PrincipalOptions,
): { a: Tensor; b: Tensor } {
  const [out, features] = weight.shape as [number, number];
  using step = jit((w: Tensor, u: Tensor) =>
    orthonormal(w.matmul(w.transpose().matmul(u)), rank)
  );
  using start = jit((w: Tensor, draw: Tensor) =>
    orthonormal(w.matmul(draw), rank)
  );
  let u = start(weight, random.normal(key, [features, rank]));
  for (let i = 0; i < iterations; i++) u = step(weight, u);
  const rows = u.transpose().matmul(weight); // S Vᵀ
  const sizes = lengths(rows, 1); // [R, 1]
  const root = sizes.mul(1 / scale).sqrt();
  return {
    a: rows.div(sizes).mul(root),
    b: u.mul(root.reshape([1, rank]).expand([out, rank])),
  };
}

/** Columns made orthonormal one after another, each twice, for what rounding leaves. */
function orthonormal(y: Tensor, columns: number): Tensor {
  let basis: Tensor | null = null;
  for (let j = 0; j < columns; j++) {
    let v = y.slice([null, [j, j + 1]]);
    for (let again = 0; again < 2; again++) {
      v = v.div(lengths(v, 0));
      if (basis) v = v.sub(basis.matmul(basis.transpose().matmul(v)));
    }
    v = v.div(lengths(v, 0));
    basis = basis ? concat([basis, v], { axis: 1 }) : v;
  }
  return basis!;
}

function lengths(x: Tensor, axis: number): Tensor {
  return maximum(x.square().sum({ axis, keepDims: true }).sqrt(), TINY);
}
