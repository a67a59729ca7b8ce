/**
 * What the threads do in a step of a program: the stages of its kernels on levels, between which all threads wait.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Place } from "../plan/kernel.ts";
import type { Division } from "./split.ts";
import type { CompiledKernel, Stage } from "./stages.ts";

/** One of the kernels of a step. */
export interface Part {
  /** Its code. */
  readonly kernel: CompiledKernel;
  /** Where its buffers are. */
  readonly buffers: readonly Place[];
  /** The number of the program's pack that it reads; null for none, absent if its stages take none. */
  readonly pack?: number | null;
}

/** A call of a stage. */
export interface StageCall {
  /** The function. */
  readonly stage: Stage;
  /** Where its buffers are. */
  readonly buffers: readonly Place[];
  /** Where its kernel's part of the shared scratch memory begins. */
  readonly scratch: number;
  /** The thread that runs it; null for all of them. */
  readonly owner: number | null;
  /** The number of the pack, as in `Part`. */
  readonly pack?: number | null;
}

/** A step. */
export interface Levels {
  /** Calls that do not wait for one another; a thread makes its own in order. */
  readonly levels: readonly (readonly StageCall[])[];
  /** Bytes of shared scratch memory. */
  readonly common: number;
  /** Nanoseconds of what several threads share. */
  readonly divided: number;
}

/**
 * The levels of a step. Its kernels are independent: large ones are divided, small ones dealt to the threads where they
 * are many enough.
 */
export function levelsOf(
  parts: readonly Part[],
  division: Division | null,
): Levels {
  const levels: StageCall[][] = [[]];
  const owners = division ? deal(parts, division) : null;
  let common = 0, divided = 0;
  for (const part of parts) {
    const { kernel: { stages, scratch }, buffers, pack } = part;
    const owner = owners?.get(part);
    let level = 0, isAlone = true;
    stages.forEach((stage, i) => {
      if (i > 0 && !(isAlone && !stage.isSplit)) level++;
      isAlone = !stage.isSplit;
      (levels[level] ??= []).push({
        stage,
        buffers,
        scratch: common,
        owner: stage.isSplit ? null : owner ?? 0,
        ...pack !== undefined && { pack },
      });
      if (stage.isSplit || owner !== undefined) divided += stage.work;
    });
    common += scratch.common;
  }
  return { levels, common, divided };
}

/** The threads of the kernels that are not divided, the longest first, each to the thread with least to do. */
function deal(
  parts: readonly Part[],
  { threads, leastWork }: Division,
): Map<Part, number> {
  const workOf = ({ kernel }: Part): number =>
    kernel.stages.reduce((sum, { work }) => sum + work, 0);
  const small = parts
    .filter(({ kernel }) => kernel.stages.every((stage) => !stage.isSplit))
    .sort((a, b) => workOf(b) - workOf(a));
  const owners = new Map<Part, number>();
  const total = small.reduce((sum, part) => sum + workOf(part), 0);
  if (small.length < 2 || total < leastWork) return owners;
  const loads = new Array<number>(threads).fill(0);
  for (const part of small) {
    const least = loads.indexOf(Math.min(...loads));
    loads[least]! += workOf(part);
    owners.set(part, least);
  }
  return owners;
}
