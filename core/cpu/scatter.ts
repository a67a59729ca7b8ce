/**
 * Scatter kernels as WebAssembly.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { ScatterKernel } from "../plan/kernel.ts";
import { sizeOf } from "../shape.ts";
import type { Lanes } from "./lanes.ts";
import { type Gather, Nest, phasesOf } from "./nest.ts";
import { f32x4, i32x4 } from "./opcodes.ts";

/** Emits a scatter; its buffers are the first parameters of the function. */
export function emitScatter(lanes: Lanes, kernel: ScatterKernel): void {
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
  const nest = new Nest(lanes, last, regions);
  const opcode = dtype === "f32" ? f32x4.add : i32x4.add;
  const add = () =>
    nest.isolate(() =>
      nest.update(target, (old) => lanes.i32(opcode, old, nest.value(source)))
    );
  // Points that may meet, along the scatter's own axis, must not share a vector.
  const phases = axis === last ? undefined : phasesOf(1);
  nest.enter(() =>
    nest.loops(
      shape.slice(0, -1),
      0,
      () => nest.loop(last, 0, shape[last]!, add, phases),
    )
  );
}
