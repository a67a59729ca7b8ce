/**
 * Scatter kernels as WebAssembly.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { ScatterKernel } from "../plan/kernel.ts";
import { sizeOf } from "../shape.ts";
import { Nest } from "./nest.ts";
import { f32x4, i32x4 } from "./opcodes.ts";
import type { Gather } from "./places.ts";
import { phasesOf } from "./pointers.ts";
import { splitLoops } from "./split.ts";
import type { StageBuilder } from "./stages.ts";
import { workOf } from "./work.ts";

/** Nanoseconds that a point takes. */
const POINT = 2;

/** Emits a scatter as a stage. */
export function emitScatter(stages: StageBuilder, kernel: ScatterKernel): void {
  const { shape, axis, view, buffer, stride, size, index, source } = kernel;
  if (sizeOf(shape) === 0) return;
  const last = shape.length - 1;
  const { dtype } = source;
  const target: Gather = {
    kind: "gather",
    buffer,
    view,
    index,
    stride,
    size,
    dtype,
  };
  const exprs = [index, source];
  const regions = [{ exprs, places: [target], within: last }];
  const opcode = dtype === "f32" ? f32x4.add : i32x4.add;
  // Points that may meet, along the scatter's own axis, must not share a vector.
  const phases = axis === last ? undefined : phasesOf(1);
  const work = POINT * sizeOf(shape) + workOf(sizeOf(shape), exprs);
  // The stride on the scatter's own axis is 0, so that it is never divided.
  const split = stages.divide(
    work,
    (division) => splitLoops(shape, last, [view], division),
  );
  stages.add(work, split, (lanes, part) => {
    const nest = new Nest(lanes, last, regions, part);
    const add = () =>
      nest.isolate(() =>
        nest.update(target, (old) => lanes.i32(opcode, old, nest.value(source)))
      );
    nest.enter(() =>
      nest.loops(
        shape.slice(0, -1),
        0,
        () => nest.across(last, shape[last]!, add, phases),
      )
    );
  });
}
