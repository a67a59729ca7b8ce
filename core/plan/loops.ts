/**
 * The order in which the steps of a plan run.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Plan } from "./kernel.ts";

/** Calls `step` with the number of each step in order; `repeat` runs the steps of a loop, or has them emitted once. */
export function walkSteps(
  { steps, loops }: Pick<Plan, "steps" | "loops">,
  step: (index: number) => void,
  repeat: (trips: number, body: () => void) => void,
): void {
  const range = (first: number, end: number, from: number): void => {
    let next = from;
    for (let i = first; i < end;) {
      while (next < loops.length && loops[next]!.first < i) next++;
      const loop = loops[next];
      if (loop && loop.first === i && loop.end <= end) {
        const inner = ++next;
        repeat(loop.trips, () => range(loop.first, loop.end, inner));
        i = loop.end;
      } else {
        step(i++);
      }
    }
  };
  range(0, steps.length, 0);
}
