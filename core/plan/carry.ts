/**
 * Carries of loops that the next ones take the place of without a copy.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { leafMapper, mapKernel } from "./expression.ts";
import type { Expr, Loop, SimpleKernel } from "./kernel.ts";
import type { Value } from "./lowered.ts";
import { overwritable, readBy, writtenBy } from "./place.ts";

/**
 * Has the one kernel of a step that computes `next` store it in `carry`, if the carry is needed no more by then. The step
 * are the kernels from `first`; gives whether it does.
 */
export function storeInCarry(
  { kernels, loops, values }: {
    readonly kernels: SimpleKernel[];
    readonly loops: readonly Loop[];
    readonly values: readonly Value[];
  },
  first: number,
  next: number,
  carry: number,
): boolean {
  const writers = kernels.flatMap((kernel, i) =>
    i >= first && writtenBy(kernel).includes(next) ? [i] : []
  );
  const [at] = writers;
  if (at === undefined || writers.length > 1) return false;
  const kernel = kernels[at]!;
  const reads = readBy(kernel).has(carry);
  if (reads && !overwritable(kernel, next, values).includes(carry)) {
    return false;
  }
  // Trips of a loop inside the step would read what an earlier one has stored.
  if (loops.some(({ first, end }) => first <= at && at < end)) return false;
  const later = kernels.slice(at + 1);
  if (later.some((k) => readBy(k).has(carry) || writtenBy(k).includes(carry))) {
    return false;
  }
  const buffer = (id: number): number => id === next ? carry : id;
  const rename = leafMapper((e) =>
    "buffer" in e ? { ...e, buffer: buffer(e.buffer) } : e
  );
  const expr = (e: Expr): Expr => rename(e)!;
  kernels.forEach((k, i) => {
    if (i >= at) kernels[i] = mapKernel(k, { buffer, expr });
  });
  return true;
}
