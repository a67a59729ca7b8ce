/**
 * Rearranges the loops of kernels for vector code: which axis comes last, and in which order the others run.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { mapLeaves, mapViews, viewsOf, visitExpr } from "../plan/expression.ts";
import type {
  Expr,
  Kernel,
  MapKernel,
  MatmulKernel,
  Output,
  ReduceKernel,
  View,
} from "../plan/kernel.ts";
import { sizeOf } from "../shape.ts";

/** A new loop: `extent` steps of `step` along an old axis. */
interface Axis {
  readonly axis: number;
  readonly extent: number;
  readonly step: number;
}

/** A reduction, and whether its lanes lie along the last reduced axis or the last outer one. */
export interface ArrangedReduce extends ReduceKernel {
  /** Position of the lane axis in `[...shape, ...over]`. */
  readonly lane: number;
}

/** A map with the axis last that gives the longest vectors, without axes of size 1. */
export function arrangeMap(kernel: MapKernel): MapKernel {
  const { shape, outputs } = kernel;
  const views = outputs.flatMap((o) => [o.view, ...viewsOf(o.expr)]);
  const axes = axesOf(shape);
  const lane = bestAxis(axes, views, outputs.map((o) => o.expr));
  if (lane) moveLast(axes, lane);
  return overAxes(kernel, lane ? tile(axes, lane, views) : axes);
}

/** A reduction likewise; a map where nothing is left to reduce. */
export function arrangeReduce(
  kernel: ReduceKernel,
): ArrangedReduce | MapKernel {
  const { shape, over, body, outputs } = kernel;
  const outer = axesOf(shape);
  const inner = axesOf(over, shape.length);
  if (sizeOf(over) === 0 || inner.length === 0) {
    const value = inner.length === 0 && sizeOf(over) > 0
      ? mapViews(body, (view) => ({
        offset: view.offset,
        strides: view.strides.slice(0, shape.length),
      }))!
      : identity(kernel);
    return { kind: "map", shape, outputs: withAcc(outputs, value) };
  }
  // Where both fit, lanes along the reduced axis: the rows of a matrix, say, rather than a scattered set of columns.
  const best = bestAxis([...outer, ...inner], viewsOf(body), [body])!;
  moveLast(outer.includes(best) ? outer : inner, best);
  const all = [...outer, ...inner];
  return {
    ...kernel,
    ...overAxes({ kind: "map", shape, outputs }, outer),
    kind: "reduce",
    over: inner.map((a) => a.extent),
    body: mapViews(body, (view) => viewOver(view, all))!,
    lane: all.indexOf(best),
  };
}

/** A product that is better a reduction or needs none, as such a kernel. */
export function arrangeMatmul(kernel: MatmulKernel): Kernel {
  const { shape, k, a, b, outputs } = kernel;
  const rank = shape.length - 2;
  const [m, n] = [shape[rank]!, shape[rank + 1]!];
  if (k > 0 && Math.min(m, n) > 1) return kernel;
  const load = ({ buffer, view }: typeof a, axis: number): Expr => {
    const strides = view.strides.slice(0, rank);
    const [row, column] = view.strides.slice(rank) as [number, number];
    strides.push(...axis === 0 ? [row, 0, column] : [0, column, row]);
    const moved = { offset: view.offset, strides };
    return { kind: "load", buffer, view: moved, dtype: "f32" };
  };
  const args = [load(a, 0), load(b, 1)];
  const body: Expr = { kind: "call", op: "mul", args, dtype: "f32" };
  return { kind: "reduce", shape, over: [k], combine: "sum", body, outputs };
}

/** Outputs in which an expression stands for what was accumulated. */
export function withAcc(outputs: readonly Output[], acc: Expr): Output[] {
  return outputs.map((output) => ({
    ...output,
    expr: mapLeaves(output.expr, (e) => e.kind === "acc" ? acc : e)!,
  }));
}

function identity({ combine, body }: ReduceKernel): Expr {
  const least = { f32: -Infinity, i32: -(2 ** 31), u32: 0, bool: 0 };
  const value = combine === "sum" ? 0 : least[body.dtype];
  return { kind: "const", value, dtype: body.dtype };
}

function axesOf(shape: readonly number[], first = 0): Axis[] {
  return shape.flatMap((extent, i) =>
    extent === 1 ? [] : [{ axis: first + i, extent, step: 1 }]
  );
}

function moveLast(axes: Axis[], axis: Axis): void {
  axes.splice(axes.indexOf(axis), 1);
  axes.push(axis);
}

/** The axis along which a vector costs least: strided elements cost one by one, as do axes shorter than a vector. */
function bestAxis(
  axes: readonly Axis[],
  views: readonly View[],
  exprs: readonly Expr[],
): Axis | undefined {
  let work = 0;
  const seen = new Set<Expr>();
  for (const e of exprs) visitExpr(e, () => work++, seen);
  let best: Axis | undefined, least = Infinity;
  for (const candidate of axes) {
    const strided = views.filter((v) => isStrided(v, candidate)).length;
    const cost = candidate.extent < 4
      ? views.length + work
      : (views.length - strided + work) / 4 + strided;
    if (cost <= least) [best, least] = [candidate, cost];
  }
  return best;
}

function isStrided({ strides }: View, { axis }: Axis): boolean {
  return strides[axis] !== 0 && strides[axis] !== 1;
}

/**
 * Loops in blocks of the lane axis where a view is contiguous along another, so that its cache lines are used whole.
 */
function tile(
  axes: readonly Axis[],
  lane: Axis,
  views: readonly View[],
): readonly Axis[] {
  const block = [64, 56, 48, 40, 32, 24, 16].find((size) =>
    lane.extent % size === 0
  );
  const across = axes.find((axis) =>
    axis.extent >= 16 &&
    views.some((v) => v.strides[axis.axis] === 1 && isStrided(v, lane))
  );
  if (!block || !across || lane.extent === block) return axes;
  return [
    ...axes.filter((axis) => axis !== lane && axis !== across),
    { ...lane, extent: lane.extent / block, step: block },
    across,
    { ...lane, extent: block },
  ];
}

function overAxes(kernel: MapKernel, axes: readonly Axis[]): MapKernel {
  return {
    kind: "map",
    shape: axes.map((a) => a.extent),
    outputs: kernel.outputs.map(({ buffer, view, expr }) => ({
      buffer,
      view: viewOver(view, axes),
      expr: mapViews(expr, (v) => viewOver(v, axes))!,
    })),
  };
}

function viewOver({ offset, strides }: View, axes: readonly Axis[]): View {
  return { offset, strides: axes.map((a) => (strides[a.axis] ?? 0) * a.step) };
}
