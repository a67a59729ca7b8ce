/**
 * Metrics of classes and numbers against published examples, and what holds of them.
 *
 * @module
 */

import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  accuracy,
  f1,
  matthews,
  pearson,
  perplexity,
  spearman,
} from "cotan/nn";
import { ShapeError } from "cotan";
import { check } from "../../support/runs.ts";
import { throws } from "../../support/throws.ts";

Deno.test("f1 and accuracy are those of scikit-learn's documentation", () => {
  // sklearn.metrics.f1_score, examples.
  const labels = [0, 1, 2, 0, 1, 2], found = [0, 2, 1, 0, 0, 1];
  assertAlmostEquals(f1(found, labels, { average: "macro" }), 0.8 / 3, 1e-15);
  assertAlmostEquals(f1(found, labels, { average: "micro" }), 1 / 3, 1e-15);
  // sklearn.metrics.accuracy_score, examples.
  assertEquals(accuracy([0, 2, 1, 3], [0, 1, 2, 3]), 0.5);
  // sklearn.metrics.precision_recall_fscore_support, examples.
  const pets = ["cat", "dog", "pig", "cat", "dog", "pig"];
  const seen = ["cat", "pig", "dog", "cat", "cat", "dog"];
  assertAlmostEquals(f1(seen, pets, { positive: "cat" }), 0.8, 1e-15);
  assertEquals(f1(seen, pets, { positive: "pig" }), 0);
  assertEquals(f1(seen, pets, { positive: "cow" }), 0);
});

Deno.test("matthews is that of scikit-learn's documentation", () => {
  // sklearn.metrics.matthews_corrcoef, examples.
  assertAlmostEquals(matthews([1, -1, 1, 1], [1, 1, 1, -1]), -1 / 3, 1e-15);
});

Deno.test("correlations are those of SciPy's documentation", () => {
  // scipy.stats.pearsonr and spearmanr, examples.
  const x = [1, 2, 3, 4, 5, 6, 7], y = [10, 9, 2.5, 6, 4, 3, 2];
  assertAlmostEquals(pearson(x, y), -0.828503883588428, 1e-14);
  const a = [1, 2, 3, 4, 5], b = [5, 6, 7, 8, 7];
  assertAlmostEquals(spearman(a, b), 0.8207826816681233, 1e-14);
  // Computed with SciPy; ties of two and of three.
  const u = [1, 2, 2, 4, 5.5, -3, 7, 7, 7, 0.5];
  const v = [2, 1, 4, 4, 6, -2, 5, 9, 5, 0];
  assertAlmostEquals(pearson(u, v), 0.9017472984939698, 1e-14);
  assertAlmostEquals(spearman(u, v), 0.9133520897645666, 1e-14);
});

Deno.test("correlations of what cannot correlate are NaN", () => {
  for (const metric of [pearson, spearman]) {
    assertEquals(metric([1, 1, 1], [1, 2, 3]), NaN);
    assertEquals(metric([1, NaN, 1], [1, 2, 3]), NaN);
    assertEquals(metric([4], [4]), NaN);
  }
  // Far from 1 on either side.
  assertAlmostEquals(pearson([1e200, 2e200, 3e200], [1, 2, 3]), 1, 1e-14);
  assertAlmostEquals(pearson([1e-200, 2e-200, 3e-200], [3, 2, 1]), -1, 1e-14);
});

Deno.test("perplexity weighs tokens, not batches", () => {
  const losses = Float32Array.of(2, 6), counts = Int32Array.of(1, 3);
  assertAlmostEquals(perplexity(losses, counts), Math.exp(2), 1e-12);
  // One of n words at random has perplexity n.
  assertAlmostEquals(perplexity([5 * Math.log(50)], [5]), 50, 1e-12);
});

/** Predictions and labels of a few classes. */
const classified = fc.array(fc.tuple(fc.nat(3), fc.nat(3)), {
  minLength: 1,
  maxLength: 30,
});

/** Every metric of classes. */
const metrics = {
  accuracy,
  matthews,
  f1,
  macro: (p: number[], l: number[]) => f1(p, l, { average: "macro" }),
  micro: (p: number[], l: number[]) => f1(p, l, { average: "micro" }),
};

Deno.test("metrics of classes are symmetric, in any order the same, and in range", () =>
  check(
    fc.property(classified, (pairs) => {
      const p = pairs.map(([a]) => a), l = pairs.map(([, b]) => b);
      for (const [name, metric] of Object.entries(metrics)) {
        const value = metric(p, l);
        assertAlmostEquals(metric(l, p), value, 1e-12, name);
        const reversed = metric(p.toReversed(), l.toReversed());
        assertAlmostEquals(reversed, value, 1e-12, name);
        assert(value >= (name === "matthews" ? -1 - 1e-12 : 0), name);
        assert(value <= 1 + 1e-12, name);
      }
      // Names of classes do not matter.
      const name = (i: number): string => "abcd"[i]!;
      assertEquals(matthews(p.map(name), l.map(name)), matthews(p, l));
    }),
    50,
  ));

Deno.test("perfect predictions have 1", () =>
  check(
    fc.property(fc.array(fc.nat(3), { maxLength: 20 }), (some) => {
      const labels = [0, 1, ...some];
      for (const [name, metric] of Object.entries(metrics)) {
        assertAlmostEquals(metric(labels, labels), 1, 1e-12, name);
      }
    }),
    20,
  ));

Deno.test("matthews is the correlation of indicators", () =>
  check(
    fc.property(classified, (pairs) => {
      const classes = [0, 1, 2, 3], n = pairs.length;
      const mean = (f: (pair: [number, number]) => number): number =>
        pairs.reduce((sum, pair) => sum + f(pair), 0) / n;
      // Sums over classes of covariances of indicators, by their definition.
      const covariance = (i: 0 | 1, j: 0 | 1): number =>
        classes.reduce((sum, c) => {
          const at = (k: 0 | 1) => (pair: [number, number]): number =>
            Number(pair[k] === c);
          const a = mean(at(i)), b = mean(at(j));
          return sum +
            mean((pair) => (at(i)(pair) - a) * (at(j)(pair) - b));
        }, 0);
      const spread = covariance(0, 0) * covariance(1, 1);
      const expected = spread < 1e-20
        ? 0
        : covariance(0, 1) / Math.sqrt(spread);
      const p = pairs.map(([a]) => a), l = pairs.map(([, b]) => b);
      assertAlmostEquals(matthews(p, l), expected, 1e-9);
      const two = (list: number[]): number[] => list.map((c) => c % 2);
      const r = pearson(two(p), two(l));
      const binary = matthews(two(p), two(l));
      assertAlmostEquals(binary, Number.isNaN(r) ? 0 : r, 1e-9);
    }),
    50,
  ));

/** Pairs of numbers with ties. */
const numbers = fc.array(
  fc.tuple(fc.integer(), fc.integer({ min: 0, max: 5 })),
  {
    minLength: 2,
    maxLength: 20,
  },
);

Deno.test("correlations are symmetric, in any order the same, and see what they should", () =>
  check(
    fc.property(numbers, (pairs) => {
      const x = pairs.map(([a]) => a), y = pairs.map(([, b]) => b);
      for (const metric of [pearson, spearman]) {
        const r = metric(x, y);
        assertAlmostEquals(metric(y, x), r, 1e-12);
        assertAlmostEquals(metric(x.toReversed(), y.toReversed()), r, 1e-12);
        assert(Number.isNaN(r) || Math.abs(r) <= 1);
        const line = x.map((v) => -3 * v + 7);
        if (!Number.isNaN(r)) {
          assertAlmostEquals(metric(x, line), -1, 1e-12);
          assertAlmostEquals(metric(line, y), -r, 1e-9);
        }
      }
      const bent = x.map((v) => Math.cbrt(v) + (v > 0 ? 100 : 0));
      assertAlmostEquals(spearman(bent, y), spearman(x, y), 1e-12);
    }),
    50,
  ));

throws("lists that do not fit are errors", ShapeError, [
  [
    () => accuracy([1, 2, 3], [1, 2]),
    "Cannot compare 3 predictions with 2 labels: there must be as many",
  ],
  [
    () => spearman([], []),
    "Cannot compare no predictions with no labels: there must be some",
  ],
  [
    () => perplexity([1], []),
    "Cannot compare 1 losses with 0 counts: there must be as many",
  ],
]);

throws("a perplexity needs tokens", RangeError, [[
  () => perplexity([1], [0]),
  "Cannot take the perplexity of 0 tokens: there must be some",
]]);
