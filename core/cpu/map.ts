/**
 * Map kernels as WebAssembly.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Expr, MapKernel, Output } from "../plan/kernel.ts";
import { sizeOf } from "../shape.ts";
import { arrangeMap } from "./arrange.ts";
import { Nest } from "./nest.ts";
import { placesOf } from "./places.ts";
import { phasesOf } from "./pointers.ts";
import { splitLoops } from "./split.ts";
import type { StageBuilder } from "./stages.ts";
import { instructionsOf, workOf } from "./work.ts";

/** Emits a map as a stage. */
export function emitMap(stages: StageBuilder, kernel: MapKernel): void {
  if (sizeOf(kernel.shape) === 0) return;
  const { shape, outputs } = arrangeMap(kernel);
  const exprs = outputs.map((o) => o.expr);
  const last = shape.length - 1;
  const work = workOf(sizeOf(shape), exprs);
  const views = outputs.map((o) => o.view);
  const split = stages.divide(
    work,
    (division) => splitLoops(shape, last, views, division),
  );
  const regions = [{ exprs, places: placesOf(outputs), within: last }];
  const phases = phasesOf(copiesFor(exprs));
  stages.add(work, split, (lanes, part) => {
    const nest = new Nest(lanes, last, regions, part);
    const visit = ({ copies }: { copies: number }) =>
      storeAll(nest, outputs, copies);
    nest.enter(() => {
      if (last < 0) return visit({ copies: 1 });
      nest.loops(
        shape.slice(0, -1),
        0,
        () => nest.across(last, shape[last]!, visit, phases),
      );
    });
  });
}

/** Computes and stores the outputs at the current point in vectors side by side. */
export function storeAll(
  nest: Nest,
  outputs: readonly Output[],
  copies: number,
): void {
  for (let copy = 0; copy < copies; copy++) {
    nest.isolate(() => store(nest, outputs, copy));
  }
}

/** Computes and stores the outputs at the current point in one of the vectors side by side. */
export function store(
  nest: Nest,
  outputs: readonly Output[],
  copy: number,
): void {
  // All values first: outputs may overwrite what others read.
  const values = outputs.map((o) => nest.value(o.expr, copy));
  outputs.forEach((o, i) => nest.store(o, values[i]!, o.expr.dtype, copy));
}

/** How many vectors side by side are worth their code: more for short expressions. */
export function copiesFor(exprs: readonly Expr[]): number {
  const size = instructionsOf(exprs);
  return size <= 8 ? 4 : size <= 32 ? 2 : 1;
}
