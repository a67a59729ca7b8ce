/**
 * Element-wise kernels: one invocation computes four neighbours, or one point where the last extent does not divide.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { MapKernel } from "../../core/plan/kernel.ts";
import { sizeOf } from "../../core/shape.ts";
import { Block } from "../block.ts";
import { accessesOf, fixedFrom, storesOf } from "../expr.ts";
import type { Schedule } from "../schedule.ts";
import {
  type Section,
  type Shader,
  splitIndex,
  vectorBuffers,
} from "../shader.ts";

/** Buffers that a map takes as vectors. */
export function mapVectors(kernel: MapKernel): Set<number> {
  const axis = vectorAxis(kernel);
  if (axis === null) return new Set();
  return vectorBuffers(accessesOf(kernel.outputs), axis);
}

/** The code of a map. */
export function mapSection(
  kernel: MapKernel,
  shader: Shader,
  schedule: Schedule,
): Section {
  const { shape, outputs } = kernel;
  const lanes = vectorAxis(kernel);
  const grid = shape.map((d, axis) => axis === lanes ? d / 4 : d);
  const index = grid.map((_, axis) => `i${axis}`);
  // Not "u": the name of the 33rd value would hide a type.
  const all = new Block(shader, { index: [], lanes: null }, "same");
  const isFixed = fixedFrom(0, new Set(storesOf(kernel)));
  const block = new Block(shader, { index, lanes }, "t", {
    block: all,
    isFixed,
  });
  block.store(outputs);

  const points = sizeOf(grid);
  const { workgroup, vectors: each } = schedule.invocations;
  const first = `(group * ${workgroup}u + lane)`;
  const body = each === 1
    ? `let p = ${first};
if (p >= ${points}u) { return; }
${all.take()}
${splitIndex("p", grid, index)}
${block.take()}`
    : `let first = ${first} * ${each}u;
${all.take()}
for (var p = first; p < min(first + ${each}u, ${points}u); p++) {
${splitIndex("p", grid, index)}
${block.take()}
}`;
  const workgroups = Math.ceil(points / (workgroup * each));
  return { workgroups, lanes: workgroup, body };
}

function vectorAxis({ shape }: MapKernel): number | null {
  const last = shape.length - 1;
  return last >= 0 && shape[last]! % 4 === 0 ? last : null;
}
