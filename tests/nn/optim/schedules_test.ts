import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { tensor } from "cotan";
import {
  constant,
  oneCycle,
  type Schedule,
  warmupConstant,
  warmupCosine,
  warmupCosineRestarts,
  warmupInverseSqrt,
  warmupLinear,
  warmupPolynomial,
} from "cotan/nn";
import { eachBackend, inFloat64 } from "../../support/backends.ts";
import { check } from "../../support/runs.ts";
import { throws } from "../../support/throws.ts";
import { assertRates } from "./support.ts";

inFloat64("schedules end at `end` and stay there", async () => {
  const options = { peak: 1, warmup: 1, steps: 3, end: 0.5 };
  await assertRates(warmupLinear(options), [0, 1, 0.75, 0.5, 0.5]);
  await assertRates(warmupCosine(options), [0, 1, 0.75, 0.5, 0.5]);
  const square = { ...options, power: 2 };
  await assertRates(warmupPolynomial(square), [0, 1, 0.625, 0.5, 0.5]);
  const twice = { ...options, cycles: 2 };
  await assertRates(warmupCosineRestarts(twice), [0, 1, 1, 0.5, 0.5]);
  const from = { ...options, start: 0.25 };
  await assertRates(oneCycle(from), [0.25, 1, 0.75, 0.5, 0.5]);
});

inFloat64("without warm-up the first rate is the peak", async () => {
  const options = { peak: 2, warmup: 0, steps: 2 };
  await assertRates(warmupLinear(options), [2, 1, 0]);
  await assertRates(oneCycle({ ...options, end: 0 }), [2, 1, 0]);
  await assertRates(warmupConstant(options), [2, 2, 2]);
  const slow = { ...options, timescale: 1 };
  await assertRates(warmupInverseSqrt(slow), [2, Math.SQRT2, 2 / Math.sqrt(3)]);
});

inFloat64("constant is the same always", async () => {
  await assertRates(constant(0.25), [0.25, 0.25]);
});

/** Settings that fit. */
const settings = fc.record({
  peak: fc.double({ min: 1e-6, max: 10, noNaN: true }),
  warmup: fc.integer({ min: 0, max: 8 }),
  rest: fc.integer({ min: 1, max: 12 }),
}).map(({ rest, ...s }) => ({ ...s, steps: s.warmup + rest }));

/** The lambda of a schedule of Hugging Face's, as its optimization.py has it, of update k. */
type Lambda = (
  k: number,
  s: { peak: number; warmup: number; steps: number },
) => number;

const lambdas: Record<string, Lambda> = {
  linear: (k, { warmup, steps }) =>
    Math.max(0, (steps - k) / Math.max(1, steps - warmup)),
  cosine: (k, { warmup, steps }) =>
    0.5 *
    (1 + Math.cos(Math.PI * Math.min(1, (k - warmup) / (steps - warmup)))),
  restarts: (k, { warmup, steps }) => {
    const progress = (k - warmup) / (steps - warmup);
    if (progress >= 1) return 0;
    // (3 progress) % 1, of whole numbers so that no rounding passes a restart.
    const within = (3 * (k - warmup)) % (steps - warmup) / (steps - warmup);
    return 0.5 * (1 + Math.cos(Math.PI * within));
  },
  polynomial: (k, { peak, warmup, steps }) => {
    if (k > steps) return 1e-7 / peak;
    const left = 1 - (k - warmup) / (steps - warmup);
    return ((peak - 1e-7) * left ** 1.5 + 1e-7) / peak;
  },
  inverseSqrt: (k, { warmup }) => {
    const timescale = warmup || 10000;
    return 1 / Math.sqrt((k + timescale - warmup) / timescale);
  },
};

inFloat64("schedules are the formulas of Transformers", () =>
  check(
    fc.asyncProperty(settings, async (s) => {
      const ours: Record<keyof typeof lambdas, Schedule> = {
        linear: warmupLinear(s),
        cosine: warmupCosine(s),
        restarts: warmupCosineRestarts({ ...s, cycles: 3 }),
        polynomial: warmupPolynomial({ ...s, power: 1.5, end: 1e-7 }),
        inverseSqrt: warmupInverseSqrt(s),
      };
      for (const [name, schedule] of Object.entries(ours)) {
        const rates = Array.from({ length: s.steps + 3 }, (_, k) =>
          s.peak *
          (k < s.warmup ? k / Math.max(1, s.warmup) : lambdas[name]!(k, s)));
        await assertRates(schedule, rates, 1e-12 * s.peak);
      }
    }),
    8,
  ));

inFloat64("oneCycle is PyTorch's OneCycleLR of steps + 1 rates", () =>
  check(
    fc.asyncProperty(settings, async (s) => {
      // Two phases as torch/optim/lr_scheduler.py has them, with pct_start (warmup + 1) / (steps + 1).
      const start = s.peak / 25, end = start / 1e4;
      const anneal = (from: number, to: number, share: number): number =>
        to + (from - to) / 2 * (1 + Math.cos(Math.PI * share));
      const rates = Array.from({ length: s.steps + 1 }, (_, k) =>
        k < s.warmup
          ? anneal(start, s.peak, k / s.warmup)
          : anneal(s.peak, end, (k - s.warmup) / (s.steps - s.warmup)));
      await assertRates(oneCycle(s), rates, 1e-12 * s.peak);
    }),
    8,
  ));

inFloat64("schedules are continuous but for restarts", () =>
  check(
    fc.asyncProperty(settings, async (s) => {
      const all: [Schedule, number][] = [
        [warmupLinear(s), s.steps],
        [warmupCosine(s), s.steps],
        [warmupPolynomial({ ...s, power: 2 }), s.steps],
        [warmupInverseSqrt(s), 2 * s.steps],
        [oneCycle(s), s.steps],
      ];
      for (const [schedule, last] of all) {
        // Between whole counts too, where a schedule is defined as well.
        for (let c = 1; c <= last; c++) {
          const [below, at] = await Promise.all(
            [c - 1e-9, c].map((at) => schedule(tensor(at)).item()),
          );
          assert(Math.abs(at! - below!) < 1e-7 * s.peak);
          assert(at! >= 0 && at! <= s.peak * (1 + 1e-12));
        }
      }
    }),
    4,
  ));

eachBackend("restarts are hit exactly in float32", async () => {
  for (
    const [span, cycles] of [[9, 3], [7000, 7], [30, 10], [49, 7]] as const
  ) {
    const rate = warmupCosineRestarts({
      peak: 1,
      warmup: 0,
      steps: span,
      cycles,
    });
    for (let cycle = 1; cycle < cycles; cycle++) {
      const at = cycle * span / cycles;
      assertEquals(await rate(tensor(at)).item(), 1);
      assert(await rate(tensor(at - 1)).item() < 0.26);
    }
  }
});

throws("settings of schedules that do not fit are errors", RangeError, [
  [
    () => warmupCosine({ peak: 1, warmup: 5, steps: 5 }),
    "Cannot make warmupCosine of 5 warm-up steps in 5: both must be integers, and steps the larger",
  ],
  [
    () => oneCycle({ peak: 1, warmup: 0, steps: 1.5 }),
    "Cannot make oneCycle of 0 warm-up steps in 1.5: both must be integers, and steps the larger",
  ],
  [
    () => warmupConstant({ peak: 1, warmup: -1 }),
    "Cannot make warmupConstant of -1 warm-up steps: it must be an integer from 0",
  ],
  [
    () => warmupLinear({ peak: -1, warmup: 0, steps: 5 }),
    "Cannot learn at peak -1: it must be finite and not negative",
  ],
  [
    () => warmupLinear({ peak: 1, warmup: 0, steps: 5, end: -1 }),
    "Cannot learn at end -1: it must be finite and not negative",
  ],
  [
    () => oneCycle({ peak: 1, warmup: 0, steps: 5, start: NaN }),
    "Cannot learn at start NaN: it must be finite and not negative",
  ],
  [
    () => constant(-1),
    "Cannot learn at rate -1: it must be finite and not negative",
  ],
  [
    () => warmupCosineRestarts({ peak: 1, warmup: 0, steps: 5, cycles: 0 }),
    "Cannot make warmupCosineRestarts of 0 cycles: it must be an integer from 1",
  ],
  [
    () => warmupPolynomial({ peak: 1, warmup: 0, steps: 5, power: 0 }),
    "Cannot make warmupPolynomial of power 0: it must be finite and above 0",
  ],
  [
    () => warmupInverseSqrt({ peak: 1, warmup: 0, timescale: -2 }),
    "Cannot make warmupInverseSqrt of timescale -2: it must be finite and above 0",
  ],
]);
