/**
 * Learning rates that depend on the number of updates done.
 *
 * The convention is that of Hugging Face's get_linear_schedule_with_warmup and get_cosine_schedule_with_warmup, and of
 * Optax: update c, counted from 0, uses rate(c); warming up, that is `peak · c / warmup`. So the very first update has
 * rate 0, and the first at full rate is number `warmup`.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { full, scope, type Tensor, where } from "../../core/mod.ts";
import type { Schedule } from "./optimizer.ts";

/** Options of the schedules with warm-up. */
export interface WarmupOptions {
  /** Rate at the end of the warm-up. */
  readonly peak: number;
  /** Updates of the warm-up; may be 0. */
  readonly warmup: number;
  /** Updates in all, the warm-up included; from then on the rate is `end`. */
  readonly steps: number;
  /** Last rate; 0. */
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
  return warmed("warmupLinear", options, (done) => done.neg().add(1));
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
  return warmed(
    "warmupCosine",
    options,
    (done) => done.mul(Math.PI).cos().add(1).mul(0.5),
  );
}

/** Warm-up, then `shape` of the share that is done of the rest, from 1 down to 0, between peak and end. */
function warmed(
  name: string,
  options: WarmupOptions,
  shape: (done: Tensor) => Tensor,
): Schedule {
  const { peak, warmup, steps, end = 0 } = options;
  checkRate("peak", peak);
  checkRate("end", end);
  const counts = Number.isInteger(warmup) && Number.isInteger(steps) &&
    warmup >= 0 && steps > warmup;
  if (!counts) {
    throw new RangeError(
      `Cannot make ${name} of ${warmup} warm-up steps in ${steps}: both must be integers, and steps the larger`,
    );
  }
  return (count) =>
    scope(() => {
      const c = count.cast("f32");
      const done = c.sub(warmup).div(steps - warmup).clip(0, 1);
      const falling = shape(done).mul(peak - end).add(end);
      return where(c.lt(warmup), c.mul(peak / Math.max(warmup, 1)), falling);
    });
}

/** Checks a rate; `name` is what the user calls it. */
export function checkRate(name: string, rate: number): void {
  if (rate >= 0 && rate < Infinity) return;
  throw new RangeError(
    `Cannot learn at ${name} ${rate}: it must be finite and not negative`,
  );
}
