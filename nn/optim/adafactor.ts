/**
 * Adafactor: second moments of matrices by row and by column.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { full, type Tensor, type Tree, tree, zeros } from "../../core/mod.ts";
import { checked, checkRate, checkShare } from "./checks.ts";
import { type DecayOptions, withDecay } from "./decay.ts";
import { average } from "./moments.ts";
import {
  type Optimizer,
  type Schedule,
  type Update,
  zerosLike,
} from "./optimizer.ts";
import { scheduleOf } from "./schedules.ts";

/** Options of `adafactor`. */
export interface AdafactorOptions extends DecayOptions {
  /** A number, or a schedule; when absent, steps are relative. */
  readonly learningRate?: number | Schedule;
  /** Whether update t, from 1, has the rate min(0.01, 1 / √t); true without a learning rate. */
  readonly relativeStep?: boolean;
  /** Whether relative steps warm up, as min(t / 10⁶, 1 / √t); false. */
  readonly warmupInit?: boolean;
  /** Whether the rate of a leaf is multiplied by its root mean square; true. */
  readonly scaleParameter?: boolean;
  /** How much of the first moment is kept; 0, which needs none. */
  readonly b1?: number;
  /** The second moments keep 1 - t to minus this power; 0.8. */
  readonly decayRate?: number;
  /** Largest root mean square of a leaf's step before the rate; 1. */
  readonly clipThreshold?: number;
  /** Added to squares of gradients, ε₁ of the paper; 1e-30. */
  readonly eps?: number;
  /** Smallest scale of a parameter, ε₂ of the paper; 1e-3. */
  readonly epsScale?: number;
}

/** State of `adafactor`. */
export type AdafactorState = {
  /** Updates done, i32. */
  readonly count: Tensor;
  /** First moments; null without. */
  readonly mu: Tree;
  /** Second moments of leaves below rank 2; holes at the others. */
  readonly nu: Tree;
  /** Means of second moments over the last axis, of leaves from rank 2. */
  readonly rows: Tree;
  /** Means of second moments over the last axis but one, of leaves from rank 2. */
  readonly columns: Tree;
};

/**
 * Adafactor (Shazeer and Stern, arXiv 1804.04235, algorithms 4 and 5), and where the paper is silent as Adafactor of
 * Hugging Face's Transformers: the first moment is one of steps times the rate, weight decay is multiplied by the rate of
 * the leaf, and leaves of more than two axes are matrices in their last two.
 *
 * With b = 1 - t^-decayRate, t from 1: r and c ← b r + (1 - b) means of g² + eps over columns and rows, v = r cᵀ / mean(r);
 * u = g / √v, divided by max(1, rms(u) / clipThreshold); p ← p - rate · max(epsScale, rms(p)) · u.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { adafactor } from "cotan/nn";
 *
 * const optimizer = adafactor();
 * const params = { w: tensor([[2, 2], [2, 2]]) }, grads = { w: tensor([[3, 3], [3, 3]]) };
 * const { updates } = optimizer.update(grads, optimizer.init(params), params);
 * assertAlmostEquals((await updates.w.data())[0]!, -0.02, 1e-6);
 * ```
 */
export function adafactor(
  options: AdafactorOptions = {},
): Optimizer<AdafactorState> {
  const {
    learningRate,
    relativeStep = learningRate === undefined,
    warmupInit = false,
    scaleParameter = true,
    b1 = 0,
    decayRate = 0.8,
    clipThreshold = 1,
    eps = 1e-30,
    epsScale = 1e-3,
    weightDecay = 0,
    mask,
  } = options;
  checkShare("b1", b1);
  for (const [name, value] of Object.entries({ eps, epsScale, weightDecay })) {
    checkRate(name, value);
  }
  for (const [name, value] of Object.entries({ decayRate, clipThreshold })) {
    if (value > 0 && value < Infinity) continue;
    throw new RangeError(
      `Cannot scale steps by ${name} ${value}: it must be finite and positive`,
    );
  }
  if (relativeStep !== (learningRate === undefined)) {
    throw new TypeError(
      `Cannot use relativeStep ${relativeStep} with${
        relativeStep ? "" : "out"
      } a learningRate: steps are relative or have a rate`,
    );
  }
  if (warmupInit && !relativeStep) {
    throw new TypeError(
      "Cannot use warmupInit with a learningRate: let the schedule warm up",
    );
  }
  const rate: Schedule = learningRate === undefined
    ? (count) => relative(count, warmupInit)
    : scheduleOf(learningRate);

  return checked({
    init(params) {
      const [matrices, others] = tree.partition(params, isMatrix);
      return {
        count: zeros([], { dtype: "i32" }),
        mu: b1 === 0 ? null : zerosLike(params),
        nu: zerosLike(others),
        rows: tree.map((p) => zeros(p.shape.slice(0, -1)), matrices),
        columns: tree.map((p) => zeros(p.shape.toSpliced(-2, 1)), matrices),
      };
    },
    update<P extends Tree>(
      grads: P,
      { count, mu, nu, rows, columns }: AdafactorState,
      params: P,
    ): Update<P, AdafactorState> {
      const lr = rate(count);
      // 1 - b: how much of a new second moment is taken.
      const taken = count.cast("f32").add(1).pow(-decayRate);
      const mean = (m: Tensor, x: Tensor): Tensor => m.add(x.sub(m).mul(taken));
      const squares = tree.map((g) => g.square().add(eps), grads);
      const [matrices, others] = tree.partition(squares, isMatrix);
      const r = tree.map(
        (s, m) => mean(m!, s.mean({ axis: -1 })),
        matrices,
        rows,
      );
      const c = tree.map(
        (s, m) => mean(m!, s.mean({ axis: -2 })),
        matrices,
        columns,
      );
      const v = tree.map((s, m) => mean(m!, s), others, nu);
      const factors = tree.merge(
        tree.map((_, r, c) => factored(r!, c!), matrices, r, c),
        tree.map((v) => v.rsqrt(), v),
      );
      const rateOf = (p: Tensor): Tensor =>
        scaleParameter ? rms(p).maximum(epsScale).mul(lr) : lr;
      const steps = tree.map(
        (g, f, p) => {
          const u = g.mul(f!);
          const excess = rms(u).div(clipThreshold).maximum(1);
          return u.div(excess).mul(rateOf(p!));
        },
        grads,
        factors,
        params,
      );
      const moved = b1 === 0
        ? steps
        : tree.map((s, m) => average(m!, b1, s), steps, mu);
      const scaled = (p: Tensor): Tensor => p.mul(rateOf(p));
      return {
        updates: tree.map(
          (s) => s.neg(),
          withDecay(moved, params, options, scaled),
        ),
        state: {
          count: count.add(1),
          mu: b1 === 0 ? null : moved,
          nu: v,
          rows: r,
          columns: c,
        },
      };
    },
  }, mask);
}

/** Whether a leaf has rows and columns. */
function isMatrix(_path: string, leaf: Tensor): boolean {
  return leaf.shape.length >= 2;
}

/** The root of the mean of squares. */
function rms(x: Tensor): Tensor {
  return x.square().mean().sqrt();
}

/** 1 / √v of v = r cᵀ / mean(r), each factor on its own: their product may be out of range. */
function factored(rows: Tensor, columns: Tensor): Tensor {
  const share = rows.div(rows.mean({ axis: -1, keepDims: true }));
  return share.rsqrt().unsqueeze(-1).mul(columns.rsqrt().unsqueeze(-2));
}

/** The rate of relative steps. */
function relative(count: Tensor, warmupInit: boolean): Tensor {
  const t = count.cast("f32").add(1);
  const most = warmupInit ? t.mul(1e-6) : full([], 0.01);
  return t.rsqrt().minimum(most);
}
