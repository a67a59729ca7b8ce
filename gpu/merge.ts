/**
 * Kernels over the fewest loop axes: axes of size 1 go, and neighbours that all views step through alike become one.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type {
  Kernel,
  MapKernel,
  MatmulKernel,
  Output,
  ReduceKernel,
  View,
} from "../core/plan/kernel.ts";
import type { Shape } from "../core/shape.ts";
import { viewRewriter, viewsOf } from "./expr.ts";

/** The same kernel over the fewest axes. */
export function merge(kernel: Kernel): Kernel {
  switch (kernel.kind) {
    case "map":
      return mergeMap(kernel);
    case "reduce":
      return mergeReduce(kernel);
    case "matmul":
      return mergeMatmul(kernel);
    case "scatter":
      return kernel;
  }
}

/** Loop axes that remain. */
interface Axes {
  /** Their extents. */
  readonly shape: Shape;
  /** For each the original axis whose strides it keeps. */
  readonly axes: readonly number[];
}

function mergeAxes(
  shape: Shape,
  views: readonly View[],
  from: number,
  to: number,
): Axes {
  const extents: number[] = [];
  const axes: number[] = [];
  for (let axis = to - 1; axis >= from; axis--) {
    const extent = shape[axis]!;
    if (extent === 1) continue;
    const inner = axes[0];
    const joins = inner !== undefined &&
      views.every(({ strides }) =>
        strides[axis] === strides[inner]! * extents[0]!
      );
    if (joins) {
      extents[0]! *= extent;
    } else {
      extents.unshift(extent);
      axes.unshift(axis);
    }
  }
  return { shape: extents, axes };
}

function pick({ offset, strides }: View, axes: readonly number[]): View {
  return { offset, strides: axes.map((axis) => strides[axis]!) };
}

function pickOutputs(
  outputs: readonly Output[],
  axes: readonly number[],
): Output[] {
  const rewrite = viewRewriter((view) => pick(view, axes));
  return outputs.map(({ buffer, view, expr }) => ({
    buffer,
    view: pick(view, axes),
    expr: rewrite(expr),
  }));
}

function outputViews(outputs: readonly Output[]): View[] {
  const exprs = outputs.map(({ expr }) => expr);
  return [...viewsOf(exprs), ...outputs.map(({ view }) => view)];
}

function mergeMap({ kind, shape, outputs }: MapKernel): MapKernel {
  const rows = mergeAxes(shape, outputViews(outputs), 0, shape.length);
  return {
    kind,
    shape: rows.shape,
    outputs: pickOutputs(outputs, rows.axes),
  };
}

function mergeReduce(kernel: ReduceKernel): ReduceKernel {
  const { shape, over, body, outputs } = kernel;
  const rank = shape.length;
  const extents = [...shape, ...over];
  const inner = viewsOf([body]);
  const all = [...inner, ...outputViews(outputs)];
  const rows = mergeAxes(extents, all, 0, rank);
  const terms = mergeAxes(extents, inner, rank, extents.length);
  const axes = [...rows.axes, ...terms.axes];
  return {
    ...kernel,
    shape: rows.shape,
    over: terms.shape,
    body: viewRewriter((view) => pick(view, axes))(body),
    outputs: pickOutputs(outputs, rows.axes),
  };
}

/** Batch axes that b does not step along join the rows, as in [B, T, C] by [C, N]. */
function mergeMatmul(kernel: MatmulKernel): MatmulKernel {
  const { shape, a, b, outputs } = kernel;
  const rank = shape.length;
  // b does not step along the rows, and a does not along the columns.
  const withoutColumns = b.view.strides.with(rank - 2, 0);
  const views = [
    a.view,
    { offset: 0, strides: withoutColumns },
    ...outputViews(outputs),
  ];
  const outer = mergeAxes(shape, views, 0, rank - 1);
  const last = outer.axes.at(-1);
  const hasRows = last !== undefined && withoutColumns[last] === 0;
  // Where no axis is left for the rows, the axis of the rows stands for it: its extent is 1.
  const axes = hasRows ? [...outer.axes] : [...outer.axes, rank - 2];
  const extents = hasRows ? [...outer.shape] : [...outer.shape, 1];
  const batch = axes.slice(0, -1);
  return {
    ...kernel,
    shape: [...extents, shape[rank - 1]!],
    a: { ...a, view: pick(a.view, [...axes, rank - 1]) },
    b: { ...b, view: pick(b.view, [...batch, rank - 2, rank - 1]) },
    outputs: pickOutputs(outputs, [...axes, rank - 1]),
  };
}
