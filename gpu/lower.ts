/**
 * Steps of a plan to shaders.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { DType } from "../core/dtype.ts";
import type { Kernel, Place, SimpleKernel, Step } from "../core/plan/kernel.ts";
import { invariant } from "../core/errors.ts";
import { endsOf, reachOf } from "../core/plan/reach.ts";
import { sizeOf } from "../core/shape.ts";
import { buffersOf, storesOf } from "./expr.ts";
import { mapSection, mapVectors } from "./kernels/map.ts";
import { matmulSection, matmulVectors } from "./kernels/matmul.ts";
import { reduceSection, reduceVectors } from "./kernels/reduce.ts";
import { scatterSection } from "./kernels/scatter.ts";
import type { Schedule } from "./schedule.ts";
import { dispatchSize, type Program, type Section, Shader } from "./shader.ts";
import { stages } from "./stages.ts";
import { type GpuLimits, type Windows, withinBindings } from "./windows.ts";

/** One dispatch of a program. */
export interface Dispatch {
  /** WGSL text. */
  readonly code: string;
  /** Place of the buffer at each binding. */
  readonly places: readonly Place[];
  /** The byte of the place at which each binding begins. */
  readonly starts: readonly number[];
  /** Whether the shader declares the buffer at each binding as writable. */
  readonly writable: readonly boolean[];
  /** Workgroups on the two axes. */
  readonly workgroups: readonly [x: number, y: number];
  /** Terms and results that it computes. */
  readonly work: number;
}

/** The dispatches that do the work of a step. */
export function lower(
  step: Step,
  schedule: Schedule,
  limits: GpuLimits,
): Dispatch[] {
  const ends = endsOf(reachOf(step.kernel));
  const pieces = stages(step, schedule, limits)
    .flatMap((stage) => withinBindings(stage, limits, ends));
  return pieces.map(({ kernel, buffers, dtypes, windows }) => {
    const parts = partsOf(kernel);
    // Only inputs may be the same storage twice, and only what is read may be bound twice. All else is writable even
    // where it is read, since places of one arena page must be bound in the same way.
    const writable = buffers.map(({ kind }) => kind !== "input");
    parts.flatMap(storesOf).forEach((buffer) => writable[buffer] = true);
    const program = emit(parts, dtypes, writable, windows, schedule);
    return {
      code: program.code,
      places: program.bindings.map(({ buffer }) => buffers[buffer]!),
      starts: program.bindings.map(({ start }) => start),
      writable: program.bindings.map(({ buffer }) => writable[buffer]!),
      workgroups: dispatchSize(program.workgroups),
      work: parts.reduce((sum, part) => sum + workOf(part), 0),
    };
  });
}

function partsOf(kernel: Kernel): readonly SimpleKernel[] {
  return kernel.kind === "group" ? kernel.parts : [kernel];
}

/** The shader of kernels with equally many lanes. */
function emit(
  parts: readonly SimpleKernel[],
  dtypes: readonly DType[],
  writable: readonly boolean[],
  windows: Windows,
  schedule: Schedule,
): Program {
  const vectors = new Set(dtypes.keys());
  for (const part of parts) {
    const own = vectorsOf(part, schedule);
    buffersOf(part).forEach((b) => own.has(b) || vectors.delete(b));
  }
  const shader = new Shader(dtypes, writable, vectors, windows);
  return shader.finish(parts.map((part) => section(part, shader, schedule)));
}

function section(
  kernel: SimpleKernel,
  shader: Shader,
  schedule: Schedule,
): Section {
  switch (kernel.kind) {
    case "map":
      return mapSection(kernel, shader, schedule);
    case "reduce":
      return reduceSection(kernel, shader, schedule);
    case "matmul":
      return matmulSection(kernel, shader, schedule);
    case "scatter":
      return scatterSection(kernel, shader, schedule);
    case "fused":
      invariant(false, `WebGPU has no kernel for ${kernel.spec.kind}`);
  }
}

function vectorsOf(kernel: SimpleKernel, schedule: Schedule): Set<number> {
  switch (kernel.kind) {
    case "map":
      return mapVectors(kernel);
    case "reduce":
      return reduceVectors(kernel);
    case "matmul":
      return matmulVectors(kernel, schedule);
    case "scatter":
    case "fused":
      return new Set();
  }
}

function workOf(kernel: SimpleKernel): number {
  const points = sizeOf(kernel.shape);
  switch (kernel.kind) {
    case "reduce":
      return points * sizeOf(kernel.over) * kernel.passes.length;
    case "matmul":
      return points * kernel.k;
    default:
      return points;
  }
}
