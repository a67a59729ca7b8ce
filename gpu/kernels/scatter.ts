/**
 * Scattered additions: one invocation a point of all axes but one, and a loop in order along that one, so that the
 * result does not depend on timing.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { ScatterKernel } from "../../core/plan/kernel.ts";
import { sizeOf } from "../../core/shape.ts";
import type { Schedule } from "../schedule.ts";
import { Block } from "../block.ts";
import { type Section, type Shader, splitIndex } from "../shader.ts";

/** The code of a scatter. */
export function scatterSection(
  kernel: ScatterKernel,
  shader: Shader,
  schedule: Schedule,
): Section {
  const { shape, axis, buffer, view, stride, size } = kernel;
  const grid = shape.map((d, i) => i === axis ? 1 : d);
  const points = sizeOf(grid);
  const index = shape.map((_, i) => i === axis ? "along" : `i${i}`);
  const names = shape.map((_, i) => i === axis ? "unused" : `i${i}`);

  const block = new Block(shader, { index, lanes: null });
  block.scatter(buffer, view, kernel.index, stride, size, kernel.source);

  const { workgroup } = schedule.invocations;
  return {
    workgroups: Math.ceil(points / workgroup),
    lanes: workgroup,
    body: `let p = group * ${workgroup}u + lane;
if (p >= ${points}u) { return; }
${splitIndex("p", grid, names)}
for (var along = 0u; along < ${shape[axis]}u; along++) {
${block.take()}
}`,
  };
}
