/**
 * Lion, Adafactor and Muon against their formulas, written as loops over numbers.
 *
 * @module
 */

import { assert } from "@std/assert";
import fc from "fast-check";
import { random, scope, type Tensor, tensor } from "cotan";
import {
  adafactor,
  type AdafactorOptions,
  lion,
  muon,
  type Optimizer,
  orthogonalize,
} from "cotan/nn";
import { assertClose } from "../../support/allclose.ts";
import { eachBackend, inFloat64 } from "../../support/backends.ts";
import { check } from "../../support/runs.ts";
import { values, varied } from "../support.ts";
import { step } from "./support.ts";

type Numbers = Float64Array;

/** A rule that changes numbers in place: parameter, gradient, and t from 1. */
type Rule = (p: Numbers, g: Numbers, t: number) => void;

/** Checks that an optimizer of one leaf does what a rule does, for some steps. */
async function assertRule(
  optimizer: Optimizer,
  shape: readonly number[],
  rule: Rule,
  rtol = 1e-12,
): Promise<void> {
  let params = { w: varied(shape, 1) };
  const p = values(shape.reduce((n, d) => n * d, 1), 1);
  let state = optimizer.init(params);
  for (let t = 1; t <= 5; t++) {
    ({ params, state } = step(
      optimizer,
      { w: varied(shape, t + 1) },
      state,
      params,
    ));
    rule(p, values(p.length, t + 1), t);
    const bound = { rtol, atol: rtol, what: `the parameter after step ${t}` };
    await assertClose(params.w, p, bound);
  }
}

const rate = 0.03, weightDecay = 0.1;

/** Algorithm 2 of arXiv 2302.06675. */
function lionRule(): Rule {
  let m: number[] = [];
  return (p, g) => {
    if (m.length === 0) m = Array(p.length).fill(0);
    p.forEach((x, i) => {
      const c = 0.8 * m[i]! + 0.2 * g[i]!;
      p[i] = x - rate * (Math.sign(c) + weightDecay * x);
      m[i] = 0.95 * m[i]! + 0.05 * g[i]!;
    });
  };
}

const lionOptions = { learningRate: rate, weightDecay, b1: 0.8, b2: 0.95 };

inFloat64(
  "lion is the paper's algorithm",
  () => assertRule(lion(lionOptions), [3, 4], lionRule()),
);

eachBackend(
  "lion is the paper's algorithm in float32",
  () => assertRule(lion(lionOptions), [3, 4], lionRule(), 1e-5),
);

function rmsOf(x: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i]! ** 2;
  return Math.sqrt(sum / x.length);
}

/** Adafactor.step of Transformers' optimization.py for a matrix, or a vector where there is no number of columns. */
function adafactorRule(o: AdafactorOptions, columns?: number): Rule {
  const { b1, clipThreshold = 1, decayRate = 0.8, scaleParameter = true } = o;
  let v: number[] = [], r: number[] = [], c: number[] = [], m: number[] = [];
  return (p, g, t) => {
    const n = p.length, rows = columns ? n / columns : 0;
    if (t === 1) {
      v = Array(n).fill(0);
      m = Array(n).fill(0);
      r = Array(rows).fill(0);
      c = Array(columns ?? 0).fill(0);
    }
    const relative = Math.min(
      o.warmupInit ? 1e-6 * t : 1e-2,
      1 / Math.sqrt(t),
    );
    let lr = (o.learningRate as number | undefined) ?? relative;
    if (scaleParameter) lr *= Math.max(1e-3, rmsOf(p));
    const b2 = 1 - t ** -decayRate;
    const squares = [...g].map((x) => x * x + 1e-30);
    let u: number[];
    if (columns) {
      const sums = { rows: Array(rows).fill(0), columns: c.map(() => 0) };
      squares.forEach((s, i) => {
        sums.rows[Math.floor(i / columns)] += s / columns;
        sums.columns[i % columns]! += s / rows;
      });
      r = r.map((x, i) => b2 * x + (1 - b2) * sums.rows[i]);
      c = c.map((x, i) => b2 * x + (1 - b2) * sums.columns[i]!);
      const mean = r.reduce((a, b) => a + b) / rows;
      u = [...g].map((x, i) =>
        x /
        Math.sqrt(r[Math.floor(i / columns)]! / mean * c[i % columns]!)
      );
    } else {
      v = v.map((x, i) => b2 * x + (1 - b2) * squares[i]!);
      u = [...g].map((x, i) => x / Math.sqrt(v[i]!));
    }
    const excess = Math.max(1, rmsOf(u) / clipThreshold);
    u = u.map((x) => x / excess * lr);
    if (b1 !== undefined) {
      m = m.map((x, i) => b1 * x + (1 - b1) * u[i]!);
      u = m;
    }
    p.forEach((x, i) => p[i] = x - (o.weightDecay ?? 0) * lr * x - u[i]!);
  };
}

const adafactors: AdafactorOptions[] = [
  {},
  { warmupInit: true },
  { learningRate: 0.1, scaleParameter: false },
  { learningRate: 0.1, weightDecay: 0.2, b1: 0.9, clipThreshold: 0.5 },
  { decayRate: 0.6, b1: 0.5, weightDecay: 0.1 },
];

/** Adafactor of a matrix and of a vector, with every option. */
async function checkAdafactor(rtol: number): Promise<void> {
  for (const options of adafactors) {
    const optimizer = adafactor(options);
    await assertRule(optimizer, [3, 4], adafactorRule(options, 4), rtol);
    await assertRule(optimizer, [5], adafactorRule(options), rtol);
  }
}

inFloat64("adafactor is that of Transformers", () => checkAdafactor(1e-12));

eachBackend(
  "adafactor is that of Transformers in float32",
  () => checkAdafactor(1e-5),
);

inFloat64("adafactor takes a stack of matrices one by one", async () => {
  const optimizer = adafactor({ learningRate: 1, scaleParameter: false });
  const g = varied([2, 3, 4], 3);
  const { state } = optimizer.update([g], optimizer.init([g]), [g]);
  const [rows] = state.rows as Tensor[], [columns] = state.columns as Tensor[];
  await assertClose(rows!, g.square().mean({ axis: 2 }), { rtol: 1e-12 });
  await assertClose(columns!, g.square().mean({ axis: 1 }), { rtol: 1e-12 });
});

eachBackend("adafactor takes no step where there is no gradient", async () => {
  const params = { w: tensor([[1, 2], [3, 4]]), b: tensor([5, 6]) };
  const zero = { w: tensor([[0, 0], [0, 0]]), b: tensor([0, 0]) };
  const optimizer = adafactor();
  const out = step(optimizer, zero, optimizer.init(params), params);
  await assertClose(out.params.w, [1, 2, 3, 4], { rtol: 0, atol: 0 });
  await assertClose(out.params.b, [5, 6], { rtol: 0, atol: 0 });
});

type Matrix = number[][];

function product(a: Matrix, b: Matrix): Matrix {
  return a.map((row) =>
    b[0]!.map((_, j) => row.reduce((sum, x, k) => sum + x * b[k]![j]!, 0))
  );
}

function transposed(a: Matrix): Matrix {
  return a[0]!.map((_, j) => a.map((row) => row[j]!));
}

function combined(a: number, x: Matrix, b: number, y: Matrix): Matrix {
  return x.map((row, i) => row.map((v, j) => a * v + b * y[i]![j]!));
}

/** zeropower_via_newtonschulz5 of github.com/KellerJordan/Muon, without its rounding to bfloat16. */
function newtonSchulz(g: Matrix): Matrix {
  if (g.length > g[0]!.length) return transposed(newtonSchulz(transposed(g)));
  const norm = Math.hypot(...g.flat()) + 1e-7;
  let x = g.map((row) => row.map((v) => v / norm));
  for (let i = 0; i < 5; i++) {
    const a = product(x, transposed(x));
    const b = combined(-4.775, a, 2.0315, product(a, a));
    x = combined(3.4445, x, 1, product(b, x));
  }
  return x;
}

/** muon_update and the step of github.com/KellerJordan/Muon. */
function muonRule(columns: number, nesterov: boolean): Rule {
  let m: number[] = [];
  return (p, g) => {
    if (m.length === 0) m = Array(p.length).fill(0);
    m = m.map((x, i) => 0.95 * x + 0.05 * g[i]!);
    const direction = m.map((x, i) => nesterov ? 0.95 * x + 0.05 * g[i]! : x);
    const rows = p.length / columns;
    const matrix = Array.from(
      { length: rows },
      (_, i) => direction.slice(i * columns, (i + 1) * columns),
    );
    const scale = Math.sqrt(Math.max(1, rows / columns));
    const steps = newtonSchulz(matrix).flat();
    p.forEach((x, i) =>
      p[i] = x * (1 - rate * weightDecay) - rate * scale * steps[i]!
    );
  };
}

/** Muon of lying, upright and square matrices. */
async function checkMuon(rtol: number): Promise<void> {
  for (const [rows, columns] of [[3, 4], [5, 2], [3, 3]] as const) {
    for (const nesterov of [true, false]) {
      const optimizer = muon({ learningRate: rate, weightDecay, nesterov });
      const rule = muonRule(columns, nesterov);
      await assertRule(optimizer, [rows, columns], rule, rtol);
    }
  }
}

inFloat64("muon is its authors'", () => checkMuon(1e-10));

eachBackend("muon is its authors' in float32", () => checkMuon(1e-5));

inFloat64("muon's steps can have the size of AdamW's", async () => {
  const params = { w: varied([3, 12]) };
  const both = (["original", "adam"] as const).map((scale) => {
    const optimizer = muon({ learningRate: 1, scale });
    return optimizer.update(params, optimizer.init(params), params).updates.w;
  });
  await assertClose(both[1]!, both[0]!.mul(0.2 * Math.sqrt(12)));
});

inFloat64("orthogonalize brings singular values near 1", () =>
  check(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 6 }),
      fc.integer({ min: 7, max: 12 }),
      fc.nat(),
      fc.boolean(),
      async (small, large, seed, upright) => {
        const shape = upright ? [large, small] : [small, large];
        const { gram, along } = scope(() => {
          const g = random.normal(random.key(seed), shape);
          const x = orthogonalize(g);
          const lying = upright ? x.transpose() : x;
          const gram = lying.matmul(lying.transpose());
          return { gram, along: x.mul(g).sum() };
        });
        // The trace is the sum of squared singular values.
        const entries = await gram.data();
        let trace = 0;
        for (let i = 0; i < small; i++) trace += entries[i * (small + 1)]!;
        assert(trace / small < 1.25 ** 2, `mean square ${trace / small}`);
        assert(trace / small > 0.5 ** 2, `mean square ${trace / small}`);
        assert(await along.item() > 0);
      },
    ),
    10,
  ));
