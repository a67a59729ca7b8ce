/**
 * Map kernels as WebAssembly.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { visitExpr } from "../plan/expression.ts";
import type { Expr, MapKernel, Output } from "../plan/kernel.ts";
import { sizeOf } from "../shape.ts";
import { arrangeMap } from "./arrange.ts";
import type { Lanes } from "./lanes.ts";
import { Nest, phasesOf, placesOf } from "./nest.ts";

/** Emits a map; its buffers are the first parameters of the function. */
export function emitMap(lanes: Lanes, kernel: MapKernel): void {
  if (sizeOf(kernel.shape) === 0) return;
  const { shape, outputs } = arrangeMap(kernel);
  const exprs = outputs.map((o) => o.expr);
  const last = shape.length - 1;
  const regions = [{ exprs, places: placesOf(outputs), within: last }];
  const nest = new Nest(lanes, last, regions);
  const phases = phasesOf(copiesFor(exprs));
  const visit = ({ copies }: { copies: number }) =>
    storeAll(nest, outputs, copies);
  nest.enter(() => {
    if (last < 0) return visit({ copies: 1 });
    nest.loops(
      shape.slice(0, -1),
      0,
      () => nest.loop(last, 0, shape[last]!, visit, phases),
    );
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
  let size = 0;
  const seen = new Set<Expr>();
  for (const expr of exprs) {
    visitExpr(expr, (e) => {
      const { kind } = e;
      if (kind === "call") size += LONG.has(e.op) ? 20 : 1;
      else if (kind !== "const") size++;
    }, seen);
  }
  return size <= 8 ? 4 : size <= 24 ? 2 : 1;
}

const LONG: ReadonlySet<string> = new Set([
  "exp",
  "expm1",
  "log",
  "log1p",
  "sin",
  "cos",
  "tanh",
  "erf",
  "pow",
  "threefry",
]);
