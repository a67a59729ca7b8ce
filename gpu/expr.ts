/**
 * What kernels read and write, and which expressions do not change along a loop.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { exprsOf, outputsOf, visitExpr } from "../core/plan/expression.ts";
import {
  type Expr,
  operandsOf,
  type Output,
  type SimpleKernel,
  type View,
} from "../core/plan/kernel.ts";

/** An access to a buffer. */
export interface Access {
  /** Which buffer of the kernel. */
  readonly buffer: number;
  /** Where in it; null where the place is computed. */
  readonly view: View | null;
}

/** All loads of some expressions. */
export function loadsOf(roots: readonly Expr[]): Access[] {
  const loads: Access[] = [];
  const seen = new Set<Expr>();
  for (const root of roots) {
    visitExpr(root, (expr) => {
      if (expr.kind === "load") loads.push(expr);
      else if ("buffer" in expr) {
        loads.push({ buffer: expr.buffer, view: null });
      }
    }, seen);
  }
  return loads;
}

/** All stores and loads of some outputs. */
export function accessesOf(outputs: readonly Output[]): Access[] {
  return [...outputs, ...loadsOf(outputs.map(({ expr }) => expr))];
}

/** The accesses that a layout should suit: those that step along all of some axes, if there are any. */
export function widest(
  accesses: readonly Access[],
  axes: readonly number[],
): readonly Access[] {
  const wide = accesses.filter(({ view }) =>
    view && axes.every((axis) => axis < 0 || view.strides[axis] !== 0)
  );
  return wide.length > 0 ? wide : accesses;
}

/** Buffers that a kernel stores to. */
export function storesOf(kernel: SimpleKernel): number[] {
  return kernel.kind === "scatter"
    ? [kernel.buffer]
    : outputsOf(kernel).map(({ buffer }) => buffer);
}

/** Buffers that a kernel reads or stores to. */
export function buffersOf(kernel: SimpleKernel): Set<number> {
  const loads = loadsOf(exprsOf(kernel)).map(({ buffer }) => buffer);
  const operands = kernel.kind === "matmul"
    ? [kernel.a.buffer, kernel.b.buffer]
    : [];
  return new Set([...storesOf(kernel), ...loads, ...operands]);
}

/**
 * A function that tells whether an expression is the same at all points of the axes from `first` on, where the buffers
 * in `stored` may change meanwhile.
 */
export function fixedFrom(
  first: number,
  stored: ReadonlySet<number>,
): (expr: Expr) => boolean {
  const known = new Map<Expr, boolean>();
  const isFixed = (expr: Expr): boolean => {
    let fixed = known.get(expr);
    if (fixed === undefined) {
      fixed = !("view" in expr && expr.view.strides.some(moves)) &&
        !("buffer" in expr && stored.has(expr.buffer)) &&
        operandsOf(expr).every(isFixed);
      known.set(expr, fixed);
    }
    return fixed;
  };
  const moves = (stride: number, axis: number): boolean =>
    axis >= first && stride !== 0;
  return isFixed;
}
