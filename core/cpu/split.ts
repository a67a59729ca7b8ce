/**
 * How the loops of a kernel are divided among threads: along one axis, so that each result is computed by one thread as
 * it would be by a single one.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { View } from "../plan/kernel.ts";
import type { Shape } from "../shape.ts";
import type { FunctionBuilder, Local, Range } from "./assembler.ts";
import { i32, select } from "./opcodes.ts";

/** What dividing work must respect. */
export interface Division {
  /** How many threads there are. */
  readonly threads: number;
  /** Nanoseconds of work that are worth a barrier. */
  readonly leastWork: number;
  /** Points of a lane axis that stay together, a multiple of those of a vector: a cache line of floats. */
  readonly grain: number;
}

/** An axis that is cut into a part for each thread. */
export interface Split {
  /** Which axis. */
  readonly axis: number;
  /** Its extent. */
  readonly extent: number;
  /** Parts start at multiples of it. */
  readonly grain: number;
}

/** The part of an axis that a thread computes. */
export interface Part extends Range {
  /** Which axis. */
  readonly axis: number;
}

/** Share of the threads' time that is used well enough not to look for a better axis. */
const GOOD = 0.9;

/** Most units of an axis, so that their product with a thread's number fits a word. */
const MOST_UNITS = 2 ** 20;

/**
 * The outermost axis that keeps all threads busy, or the one that does so best; null where there is none. `stores` are
 * views that hold an own element for each point of what is divided.
 */
export function splitLoops(
  shape: Shape,
  lane: number,
  stores: readonly View[],
  { threads, grain }: Division,
): Split | null {
  let best: Split | null = null, most = 1 / threads;
  for (const [axis, extent] of shape.entries()) {
    if (stores.some(({ strides }) => strides[axis] === 0)) continue;
    const split = splitAxis(axis, extent, axis === lane ? grain : 1);
    const share = shareOf(split, threads);
    if (share <= most) continue;
    [best, most] = [split, share];
    if (share >= GOOD) break;
  }
  return best;
}

/** An axis in steps of at least a grain. */
export function splitAxis(axis: number, extent: number, grain: number): Split {
  const steps = Math.ceil(extent / (grain * MOST_UNITS));
  return { axis, extent, grain: grain * Math.max(1, steps) };
}

/** Which share of the time all threads are busy. */
export function shareOf(split: Split, threads: number): number {
  const units = unitsOf(split);
  return units / (threads * Math.ceil(units / threads));
}

/** Computes the part of a thread, given in locals as are their number. */
export function partOf(
  code: FunctionBuilder,
  split: Split,
  thread: Local,
  threads: Local,
): Part {
  const { axis, extent, grain } = split;
  const [from, to] = code.locals(2);
  const start = () =>
    code.const(unitsOf(split)).op(i32.mul).get(threads).op(i32.divU)
      .const(grain).op(i32.mul);
  code.get(thread);
  start().set(from);
  code.get(thread).const(1).op(i32.add);
  start().tee(to).const(extent).get(to).const(extent).op(i32.ltS).op(select);
  code.set(to);
  return { axis, from: { local: from }, to: { local: to } };
}

function unitsOf({ extent, grain }: Split): number {
  return Math.ceil(extent / grain);
}
