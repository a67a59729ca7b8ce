/**
 * Element-wise kernels: one invocation computes four neighbours, or one point where the last extent does not divide.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { DType } from "../../core/dtype.ts";
import type { MapKernel } from "../../core/plan/kernel.ts";
import { sizeOf } from "../../core/shape.ts";
import { accessesOf } from "../expr.ts";
import type { Schedule } from "../schedule.ts";
import { Block } from "../block.ts";
import { type Program, Shader, splitIndex, vectorBuffers } from "../shader.ts";

/** The shader of a map. */
export function mapProgram(
  kernel: MapKernel,
  dtypes: readonly DType[],
  writable: readonly boolean[],
  schedule: Schedule,
): Program {
  const { shape, outputs } = kernel;
  const last = shape.length - 1;
  const lanes = last >= 0 && shape[last]! % 4 === 0 ? last : null;
  const grid = shape.map((d, axis) => axis === lanes ? d / 4 : d);
  const accesses = accessesOf(outputs);
  const vectors = lanes === null
    ? new Set<number>()
    : vectorBuffers(accesses, lanes);

  const index = grid.map((_, axis) => `i${axis}`);
  const shader = new Shader(dtypes, writable, vectors);
  const block = new Block(shader, { index, lanes });
  block.store(outputs);

  const points = sizeOf(grid);
  const { workgroup, vectors: each } = schedule.invocations;
  const first = `(group * ${workgroup}u + lane)`;
  const body = each === 1
    ? `let p = ${first};
if (p >= ${points}u) { return; }
${splitIndex("p", grid, index)}
${block}`
    : `let first = ${first} * ${each}u;
for (var p = first; p < min(first + ${each}u, ${points}u); p++) {
${splitIndex("p", grid, index)}
${block}
}`;
  return shader.finish(Math.ceil(points / (workgroup * each)), workgroup, body);
}
