/**
 * Learning rates that depend on the number of updates done.
 *
 * The convention is that of Hugging Face's get_*_schedule_with_warmup, and of Optax: update c, counted from 0, uses
 * rate(c); warming up, that is `peak · c / warmup`. So the very first update has rate 0, and the first at full rate is
 * number `warmup`.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { full, scope, type Tensor, where } from "../../core/mod.ts";
import { checkRate } from "./checks.ts";
import type { Schedule } from "./optimizer.ts";

/** Options of schedules that warm up and then stay or fall without an end. */
export interface WarmupConstantOptions {
  /** Rate at the end of the warm-up. */
  readonly peak: number;
  /** Updates of the warm-up; may be 0. */
  readonly warmup: number;
}

/** Options of the schedules with warm-up. */
export interface WarmupOptions extends WarmupConstantOptions {
  /** Updates in all, the warm-up included; from then on the rate is `end`. */
  readonly steps: number;
  /** Last rate; 0. */
  readonly end?: number;
}

/** Options of `warmupPolynomial`. */
export interface WarmupPolynomialOptions extends WarmupOptions {
  /** Power of the share that is left; 1, a straight line. */
  readonly power?: number;
}

/** Options of `warmupCosineRestarts`. */
export interface WarmupCosineRestartsOptions extends WarmupOptions {
  /** How often the rate falls; 1, without a restart. */
  readonly cycles?: number;
}

/** Options of `warmupInverseSqrt`. */
export interface WarmupInverseSqrtOptions extends WarmupConstantOptions {
  /** Updates after which the rate is 1 / √2 of the peak; as many as warm up, or 10000 without warm-up. */
  readonly timescale?: number;
}

/** Options of `oneCycle`. */
export interface OneCycleOptions extends WarmupOptions {
  /** First rate; a 25th of the peak. */
  readonly start?: number;
  /** Last rate; a 10000th of the first. */
  readonly end?: number;
}

/**
 * The same rate always.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { constant } from "cotan/nn";
 *
 * assertAlmostEquals(await constant(0.1)(tensor(7)).item(), 0.1, 1e-8);
 * ```
 */
export function constant(rate: number): Schedule {
  checkRate("rate", rate);
  return () => full([], rate);
}

/** A schedule as it is, a number as one that is constant. */
export function scheduleOf(rate: number | Schedule): Schedule {
  return typeof rate === "number" ? constant(rate) : rate;
}

/**
 * From 0 up to `peak` in a straight line, and then `peak`.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { warmupConstant } from "cotan/nn";
 *
 * const rate = warmupConstant({ peak: 0.5, warmup: 5 });
 * assertAlmostEquals(await rate(tensor(1)).item(), 0.1, 1e-6);
 * assertAlmostEquals(await rate(tensor(9)).item(), 0.5, 1e-6);
 * ```
 */
export function warmupConstant(options: WarmupConstantOptions): Schedule {
  return warmed("warmupConstant", options, () => full([], options.peak));
}

/**
 * From 0 up to `peak` in a straight line, then down to `end` in another.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { warmupLinear } from "cotan/nn";
 *
 * const rate = warmupLinear({ peak: 1, warmup: 2, steps: 10 });
 * assertAlmostEquals(await rate(tensor(1)).item(), 0.5, 1e-6);
 * assertAlmostEquals(await rate(tensor(4)).item(), 0.75, 1e-6);
 * ```
 */
export function warmupLinear(options: WarmupOptions): Schedule {
  return falling("warmupLinear", options, (done) => done.neg().add(1));
}

/**
 * From 0 up to `peak` in a straight line, then down to `end` along half a cosine (Loshchilov and Hutter,
 * arXiv 1608.03983, without restarts). Hugging Face's rises again after `steps`; this one stays.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { warmupCosine } from "cotan/nn";
 *
 * const rate = warmupCosine({ peak: 1, warmup: 2, steps: 10, end: 0.1 });
 * assertAlmostEquals(await rate(tensor(2)).item(), 1, 1e-6);
 * assertAlmostEquals(await rate(tensor(10)).item(), 0.1, 1e-6);
 * ```
 */
export function warmupCosine(options: WarmupOptions): Schedule {
  return falling("warmupCosine", options, cosine);
}

/**
 * From 0 up to `peak` in a straight line, then `cycles` times from `peak` down to `end` along half a cosine, each as long
 * as the others (Loshchilov and Hutter, arXiv 1608.03983, with restarts of one length).
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { warmupCosineRestarts } from "cotan/nn";
 *
 * const rate = warmupCosineRestarts({ peak: 1, warmup: 2, steps: 10, cycles: 2 });
 * assertAlmostEquals(await rate(tensor(4)).item(), 0.5, 1e-6);
 * assertAlmostEquals(await rate(tensor(6)).item(), 1, 1e-6);
 * ```
 */
export function warmupCosineRestarts(
  options: WarmupCosineRestartsOptions,
): Schedule {
  const { warmup, steps, cycles = 1 } = options;
  if (!(Number.isInteger(cycles) && cycles > 0)) {
    throw new RangeError(
      `Cannot make warmupCosineRestarts of ${cycles} cycles: it must be an integer from 1`,
    );
  }
  const span = steps - warmup;
  // The place in a cycle is found in whole numbers, which float32 holds: a share could round past a restart.
  return falling("warmupCosineRestarts", options, (done, since) => {
    const within = since.mul(cycles).mod(span).div(span);
    return where(done.ge(1), 0, cosine(within));
  });
}

/**
 * From 0 up to `peak` in a straight line, then down to `end` as a power of the share that is left. Where Hugging Face's
 * get_polynomial_decay_schedule_with_warmup ends at 1e-7, this one ends at 0 unless told otherwise.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { warmupPolynomial } from "cotan/nn";
 *
 * const rate = warmupPolynomial({ peak: 1, warmup: 2, steps: 10, power: 2 });
 * assertAlmostEquals(await rate(tensor(6)).item(), 0.25, 1e-6);
 * ```
 */
export function warmupPolynomial(options: WarmupPolynomialOptions): Schedule {
  const { power = 1 } = options;
  if (!(power > 0 && power < Infinity)) {
    throw new RangeError(
      `Cannot make warmupPolynomial of power ${power}: it must be finite and above 0`,
    );
  }
  return falling(
    "warmupPolynomial",
    options,
    (done) => done.neg().add(1).pow(power),
  );
}

/**
 * From 0 up to `peak` in a straight line, then down as `peak · √(timescale / (c - warmup + timescale))`, without an end,
 * as Hugging Face's get_inverse_sqrt_schedule.
 *
 * With the timescale as long as the warm-up this is the schedule of Vaswani et al., arXiv 1706.03762, section 5.3.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { warmupInverseSqrt } from "cotan/nn";
 *
 * const rate = warmupInverseSqrt({ peak: 1, warmup: 4 });
 * assertAlmostEquals(await rate(tensor(16)).item(), 0.5, 1e-6);
 * ```
 */
export function warmupInverseSqrt(options: WarmupInverseSqrtOptions): Schedule {
  const { peak, warmup, timescale = warmup || 10000 } = options;
  if (!(timescale > 0 && timescale < Infinity)) {
    throw new RangeError(
      `Cannot make warmupInverseSqrt of timescale ${timescale}: it must be finite and above 0`,
    );
  }
  return warmed(
    "warmupInverseSqrt",
    options,
    // Before the end of the warm-up another value is taken, but the root must be one.
    (since) => since.maximum(0).div(timescale).add(1).rsqrt().mul(peak),
  );
}

/**
 * From `start` up to `peak` along half a cosine, then down to `end` along another (Smith and Topin, arXiv 1708.07120,
 * whose lines are straight).
 *
 * It is torch.optim.lr_scheduler.OneCycleLR of steps + 1 rates, whose pct_start is (warmup + 1) / (steps + 1): there the
 * peak and the end come one update before the counts it is told.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { oneCycle } from "cotan/nn";
 *
 * const rate = oneCycle({ peak: 1, warmup: 3, steps: 10 });
 * assertAlmostEquals(await rate(tensor(0)).item(), 0.04, 1e-6);
 * assertAlmostEquals(await rate(tensor(3)).item(), 1, 1e-6);
 * ```
 */
export function oneCycle(options: OneCycleOptions): Schedule {
  const { peak, warmup } = options;
  const { start = peak / 25 } = options, { end = start / 1e4 } = options;
  checkRate("start", start);
  return falling("oneCycle", { ...options, end }, cosine, (c) => {
    const left = c.div(Math.max(warmup, 1)).neg().add(1);
    return cosine(left).mul(peak - start).add(start);
  });
}

/** Half a cosine from 1 at 0 down to 0 at 1. */
function cosine(done: Tensor): Tensor {
  return done.mul(Math.PI).cos().add(1).mul(0.5);
}

/**
 * Warm-up, then between peak and end what `shape` says, from 1 down to 0, of the share that is done of the rest and of the
 * updates since the warm-up.
 */
function falling(
  name: string,
  options: WarmupOptions,
  shape: (done: Tensor, since: Tensor) => Tensor,
  rise?: (count: Tensor) => Tensor,
): Schedule {
  const { peak, warmup, steps, end = 0 } = options;
  checkRate("end", end);
  if (!Number.isInteger(steps) || steps <= warmup) {
    throw new RangeError(
      `Cannot make ${name} of ${warmup} warm-up steps in ${steps}: both must be integers, and steps the larger`,
    );
  }
  return warmed(name, options, (since) => {
    const done = since.div(steps - warmup).clip(0, 1);
    return shape(done, since).mul(peak - end).add(end);
  }, rise);
}

/** Warm-up, then `after` of the updates since. */
function warmed(
  name: string,
  { peak, warmup }: WarmupConstantOptions,
  after: (since: Tensor) => Tensor,
  rise = (c: Tensor): Tensor => c.mul(peak / Math.max(warmup, 1)),
): Schedule {
  checkRate("peak", peak);
  if (!(Number.isInteger(warmup) && warmup >= 0)) {
    throw new RangeError(
      `Cannot make ${name} of ${warmup} warm-up steps: it must be an integer from 0`,
    );
  }
  return (count) =>
    scope(() => {
      const c = count.cast("f32");
      return where(c.lt(warmup), rise(c), after(c.sub(warmup)));
    });
}
