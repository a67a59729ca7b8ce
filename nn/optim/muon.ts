/**
 * Muon: momentum of matrices, orthogonalized.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  format,
  scope,
  ShapeError,
  type Tensor,
  type Tree,
  tree,
  zeros,
} from "../../core/mod.ts";
import { at, checked, checkRate, checkShare } from "./checks.ts";
import { type DecayOptions, withDecay } from "./decay.ts";
import { average } from "./moments.ts";
import {
  type Optimizer,
  type Schedule,
  type Update,
  zerosLike,
} from "./optimizer.ts";
import { scheduleOf } from "./schedules.ts";

/** Options of `muon`. */
export interface MuonOptions extends DecayOptions {
  /** A number, or a schedule. */
  readonly learningRate: number | Schedule;
  /** How much of the momentum is kept; 0.95. */
  readonly momentum?: number;
  /** Whether to look ahead along the momentum; true. */
  readonly nesterov?: boolean;
  /** Newton-Schulz iterations; 5. */
  readonly iterations?: number;
  /**
   * Factor of a step of m rows and n columns: "original" is √max(1, m / n), "adam" is 0.2 √max(m, n), which gives steps
   * the size of AdamW's (Liu et al., arXiv 2502.16982, section 2.2), so that its rate and decay can be taken; "original".
   */
  readonly scale?: "original" | "adam";
}

/** State of `muon`. */
export type MuonState = {
  /** Updates done, i32. */
  readonly count: Tensor;
  /** Momentum, a tree like the parameters. */
  readonly mu: Tree;
};

/**
 * Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) for matrices:
 *
 * m ← b m + (1 - b) g; p ← p - rate · (scale · orthogonalize(b m + (1 - b) g) + weightDecay · p), or without Nesterov's
 * look ahead of m itself.
 *
 * Other leaves, and by its authors' advice embeddings and the head, are for another optimizer: see `partitioned`. A
 * leaf that is no matrix throws `ShapeError`.
 *
 * @example
 * ```ts
 * import { assert } from "@std/assert";
 * import { tensor } from "cotan";
 * import { adamw, muon, partitioned } from "cotan/nn";
 *
 * const optimizer = partitioned([["*.weight", muon({ learningRate: 0.02 })]], adamw({ learningRate: 0.001 }));
 * const params = { up: { weight: tensor([[1, 0], [0, 2]]), bias: tensor([0, 0]) } };
 * const { updates } = optimizer.update(params, optimizer.init(params), params);
 * const step = await updates.up.weight.data();
 * assert(Math.abs(step[0]! + 0.02) < 0.01 && Math.abs(step[3]! + 0.02) < 0.01);
 * ```
 */
export function muon(options: MuonOptions): Optimizer<MuonState> {
  const {
    learningRate,
    momentum = 0.95,
    nesterov = true,
    iterations = 5,
    scale = "original",
    weightDecay = 0,
    mask,
  } = options;
  checkShare("momentum", momentum);
  checkRate("weightDecay", weightDecay);
  const rate = scheduleOf(learningRate);
  return checked({
    init(params) {
      for (const { path, leaf } of tree.leaves(params)) {
        if (leaf.shape.length === 2) continue;
        throw new ShapeError(
          `Cannot orthogonalize ${format(leaf)}${
            at(path)
          }: it must be a matrix; give what is none to another optimizer with partitioned`,
        );
      }
      return { count: zeros([], { dtype: "i32" }), mu: zerosLike(params) };
    },
    update<P extends Tree>(
      grads: P,
      { count, mu }: MuonState,
      params: P,
    ): Update<P, MuonState> {
      const lr = rate(count).neg();
      const next = tree.map((g, m) => average(m!, momentum, g), grads, mu);
      const steps = tree.map(
        (g, m) => {
          const [rows, columns] = g.shape as readonly [number, number];
          const factor = scale === "original"
            ? Math.sqrt(Math.max(1, rows / columns))
            : 0.2 * Math.sqrt(Math.max(rows, columns));
          const direction = nesterov ? average(m!, momentum, g) : m!;
          return orthogonalize(direction, iterations).mul(factor);
        },
        grads,
        next,
      );
      return {
        updates: tree.map((s) => s.mul(lr), withDecay(steps, params, options)),
        state: { count: count.add(1), mu: next },
      };
    },
  }, mask);
}

/**
 * About U Vᵀ of a matrix U S Vᵀ: singular values end up between 0.7 and 1.2 where they are not far below the largest.
 *
 * Each iteration makes X ← a X + (b X Xᵀ + c (X Xᵀ)²) X with a = 3.4445, b = -4.7750, c = 2.0315, in float32, where the
 * authors compute in bfloat16.
 *
 * @example
 * ```ts
 * import { assert } from "@std/assert";
 * import { tensor } from "cotan";
 * import { orthogonalize } from "cotan/nn";
 *
 * const [a, b, c, d] = await orthogonalize(tensor([[3, 0], [0, -2]])).data();
 * assert(Math.abs(a! - 1) < 0.35 && b === 0 && c === 0 && Math.abs(d! + 1) < 0.35);
 * ```
 */
export function orthogonalize(matrix: Tensor, iterations = 5): Tensor {
  if (!(Number.isInteger(iterations) && iterations > 0)) {
    throw new RangeError(
      `Cannot orthogonalize by ${iterations} iterations: it must be an integer from 1`,
    );
  }
  return scope(() => {
    const [rows, columns] = matrix.shape as readonly [number, number];
    // X Xᵀ is the smaller product where X lies.
    const upright = rows > columns;
    let x = upright ? matrix.transpose() : matrix;
    x = x.div(x.square().sum().sqrt().add(1e-7));
    for (let i = 0; i < iterations; i++) {
      const a = x.matmul(x.transpose());
      const b = a.mul(-4.775).add(a.matmul(a).mul(2.0315));
      x = x.mul(3.4445).add(b.matmul(x));
    }
    return upright ? x.transpose() : x;
  });
}
