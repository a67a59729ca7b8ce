/**
 * Stretches of a program: kernels in a row that run equally often, between where loops begin and end.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Kernel, Loop } from "./kernel.ts";
import type { Lowered } from "./lowered.ts";
import { readBy, writtenBy } from "./place.ts";

/**
 * A program whose stretches are rewritten one by one. What other stretches use, and what a trip of a loop may leave to
 * the next, is among the outputs of a stretch.
 */
export function rewriteStretches(
  lowered: Lowered,
  rewrite: (stretch: Lowered) => readonly Kernel[],
): { kernels: Kernel[]; loops: Loop[] } {
  const { kernels: all, loops } = lowered;
  if (loops.length === 0) return { kernels: [...rewrite(lowered)], loops: [] };
  const ends = loops.flatMap(({ first, end }) => [first, end]);
  const bounds = [...new Set([0, ...ends, all.length])].sort((a, b) => a - b);
  const used = bounds.slice(1).map((end, i) =>
    new Set(
      all.slice(bounds[i]!, end).flatMap((kernel) => [
        ...readBy(kernel),
        ...writtenBy(kernel),
      ]),
    )
  );
  const stretches = new Map<number, number>();
  for (const ids of used) {
    for (const id of ids) stretches.set(id, (stretches.get(id) ?? 0) + 1);
  }
  const kernels: Kernel[] = [];
  const moved = new Map([[0, 0]]);
  bounds.slice(1).forEach((end, i) => {
    const shared = [...used[i]!].filter((id) => stretches.get(id)! > 1);
    kernels.push(...rewrite({
      ...lowered,
      kernels: all.slice(bounds[i]!, end),
      axes: lowered.axes.slice(bounds[i]!, end),
      loops: [],
      outputs: [...lowered.outputs, ...shared],
    }));
    moved.set(end, kernels.length);
  });
  return {
    kernels,
    loops: loops.map(({ first, end, trips }) => ({
      first: moved.get(first)!,
      end: moved.get(end)!,
      trips,
    })),
  };
}
