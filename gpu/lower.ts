/**
 * Steps of a plan to shaders.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { DType } from "../core/dtype.ts";
import type { Kernel, Place, Step } from "../core/plan/kernel.ts";
import { sizeOf } from "../core/shape.ts";
import { mapProgram } from "./kernels/map.ts";
import { matmulProgram } from "./kernels/matmul.ts";
import { reduceProgram } from "./kernels/reduce.ts";
import { scatterProgram } from "./kernels/scatter.ts";
import type { Schedule } from "./schedule.ts";
import { stages } from "./stages.ts";
import { dispatchSize, type Program } from "./shader.ts";

/** One dispatch of a program. */
export interface Dispatch {
  /** WGSL text. */
  readonly code: string;
  /** Place of the buffer at each binding. */
  readonly places: readonly Place[];
  /** Whether the shader declares the buffer at each binding as writable. */
  readonly writable: readonly boolean[];
  /** Workgroups on the two axes. */
  readonly workgroups: readonly [x: number, y: number];
  /** Terms and results that it computes. */
  readonly work: number;
}

/** The dispatches that do the work of a step. */
export function lower(step: Step, schedule: Schedule): Dispatch[] {
  return stages(step, schedule).map(({ kernel, buffers, dtypes }) => {
    // Only inputs may be the same storage twice, and only what is read may be bound twice. All else is writable even
    // where it is read, since places of one arena page must be bound in the same way.
    const writable = buffers.map(({ kind }) => kind !== "input");
    storesOf(kernel).forEach((buffer) => writable[buffer] = true);
    const program = emit(kernel, dtypes, writable, schedule);
    return {
      code: program.code,
      places: program.buffers.map((buffer) => buffers[buffer]!),
      writable: program.buffers.map((buffer) => writable[buffer]!),
      workgroups: dispatchSize(program.workgroups),
      work: workOf(kernel),
    };
  });
}

function emit(
  kernel: Kernel,
  dtypes: readonly DType[],
  writable: readonly boolean[],
  schedule: Schedule,
): Program {
  switch (kernel.kind) {
    case "map":
      return mapProgram(kernel, dtypes, writable, schedule);
    case "reduce":
      return reduceProgram(kernel, dtypes, writable, schedule);
    case "matmul":
      return matmulProgram(kernel, dtypes, writable, schedule);
    case "scatter":
      return scatterProgram(kernel, dtypes, writable, schedule);
  }
}

function storesOf(kernel: Kernel): number[] {
  return kernel.kind === "scatter"
    ? [kernel.buffer]
    : kernel.outputs.map(({ buffer }) => buffer);
}

function workOf(kernel: Kernel): number {
  const points = sizeOf(kernel.shape);
  switch (kernel.kind) {
    case "reduce":
      return points * sizeOf(kernel.over);
    case "matmul":
      return points * kernel.k;
    default:
      return points;
  }
}
