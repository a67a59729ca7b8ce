/**
 * First values of low-rank factors.
 *
 * Letters: R rank; `in` and `out` are the features of a layer.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { random, type Tensor, zeros } from "../core/mod.ts";
import { principal } from "./pissa.ts";

/**
 * How factors start: "kaiming" is U(±1/√in) for a, as the authors' code and PEFT have it, "gaussian" N(0, 1/R²), b being
 * 0 in both; "pissa" takes the largest singular values out of the weight, and "pissa_niter_4" by 4 iterations for 16.
 */
export type AdapterInit =
  | "kaiming"
  | "gaussian"
  | "pissa"
  | `pissa_niter_${number}`;

/** Factors of a weight. */
export interface Factors {
  /** [R, in]. */
  readonly a: Tensor;
  /** [out, R]. */
  readonly b: Tensor;
}

/** Iterations where "pissa" says no number. */
const ITERATIONS = 16;

/** Iterations that an init asks for, or null where it takes nothing out of the weight. */
export function pissaIterations(init: AdapterInit): number | null {
  const found = /^pissa(?:_niter_(\d+))?$/.exec(init);
  return found && Number(found[1] ?? ITERATIONS);
}

/** What factors are made for. */
export interface FactorOptions {
  /** R. */
  readonly rank: number;
  /** The scale in force. */
  readonly scale: number;
  /** How they start. */
  readonly init: AdapterInit;
  /** Whether the layer picks rows by ids. */
  readonly isEmbedding: boolean;
}

/** First factors of a weight [out, in]. */
export function initialFactors(
  key: Tensor,
  weight: () => Tensor,
  [out, features]: readonly [number, number],
  { rank, scale, init, isEmbedding }: FactorOptions,
): Factors {
  const shape = [rank, features];
  const iterations = pissaIterations(init);
  if (iterations !== null) {
    return principal(weight(), key, { rank, scale, iterations });
  }
  // Of an embedding the roles swap, as in the authors' code: a row of a is what an id picks.
  if (isEmbedding) {
    return { a: zeros(shape), b: random.normal(key, [out, rank]) };
  }
  const b = zeros([out, rank]);
  if (init === "gaussian") {
    return { a: random.normal(key, shape).mul(1 / rank), b };
  }
  const bound = 1 / Math.sqrt(features);
  return { a: random.uniform(key, shape, { min: -bound, max: bound }), b };
}
