/**
 * Rearranges the loops of kernels for vector code: which axis comes last, and in which order the others run.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  entry,
  leafMapper,
  mapMatrix,
  viewMapper,
  viewsOf,
  visitExpr,
} from "../plan/expression.ts";
import type {
  Expr,
  MapKernel,
  MatmulKernel,
  Matrix,
  Output,
  ReduceKernel,
  Reduction,
  SimpleKernel,
  View,
} from "../plan/kernel.ts";
import { type Shape, sizeOf } from "../shape.ts";
import { asSums, unrepeated } from "./sums.ts";

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
  const tiled = lane ? tile(axes, lane, views) : axes;
  return {
    kind: "map",
    shape: tiled.map((a) => a.extent),
    outputs: outputsOver(outputs, tiled),
  };
}

/** A reduction likewise; a map where nothing is left to reduce. */
export function arrangeReduce(
  kernel: ReduceKernel,
): ArrangedReduce | MapKernel {
  const { shape, over, passes, outputs } = kernel;
  const outer = axesOf(shape);
  const inner = axesOf(over, shape.length);
  if (sizeOf(over) === 0 || inner.length === 0) return asMap(kernel);
  const stores = passes.flatMap((pass) => pass.outputs);
  const exprs = [
    ...passes.flatMap((pass) => pass.reductions.map(({ body }) => body)),
    ...stores.map(({ expr }) => expr),
  ];
  const views = [...exprs.flatMap(viewsOf), ...stores.map(({ view }) => view)];
  // Where both fit, lanes along the reduced axis: the rows of a matrix, say, rather than a scattered set of columns.
  const best = bestAxis([...outer, ...inner], views, exprs)!;
  moveLast(outer.includes(best) ? outer : inner, best);
  const all = [...outer, ...inner];
  const inPass = viewMapper((view) => viewOver(view, all));
  return {
    kind: "reduce",
    shape: outer.map((a) => a.extent),
    over: inner.map((a) => a.extent),
    passes: passes.map(({ reductions, outputs }) => ({
      reductions: reductions.map((r) => ({ ...r, body: inPass(r.body)! })),
      outputs: outputsOver(outputs, all, inPass),
    })),
    outputs: outputsOver(outputs, outer),
    lane: all.indexOf(best),
  };
}

/** A reduction whose walks have one point or none. */
function asMap({ shape, over, passes, outputs }: ReduceKernel): MapKernel {
  const accs: Expr[] = [];
  const stored = new Map<number, Output>();
  const here = ({ offset, strides }: View): View => {
    return { offset, strides: strides.slice(0, shape.length) };
  };
  const rewriter = () =>
    leafMapper((e) => {
      if (e.kind === "acc") return accs[e.index]!;
      if (e.kind === "load" && stored.has(e.buffer)) {
        return stored.get(e.buffer)!.expr;
      }
      return "view" in e ? { ...e, view: here(e.view) } : e;
    });
  for (const pass of passes) {
    const rewrite = rewriter();
    const values = pass.reductions.map((reduction) =>
      sizeOf(over) === 0 ? identity(reduction) : rewrite(reduction.body)!
    );
    const written = pass.outputs.map(({ buffer, view, expr }) => {
      return { buffer, view: here(view), expr: rewrite(expr)! };
    });
    accs.push(...values);
    if (sizeOf(over) === 0) continue;
    for (const output of written) stored.set(output.buffer, output);
  }
  const last = withAccs(outputs, accs);
  return { kind: "map", shape, outputs: [...stored.values(), ...last] };
}

/** A product of many rows, by its columns where these are stored one after another, or as a reduction. */
export function arrangeMatmul(kernel: MatmulKernel): SimpleKernel {
  const { shape, k, a, b, outputs } = kernel;
  const rank = shape.length - 2;
  const [m, n] = [shape[rank]!, shape[rank + 1]!];
  if (k > 0 && Math.min(m, n) > 1) {
    const sums = asSums(kernel);
    if (sums) return unrepeated(sums);
    const isStoredBy = (axis: number) =>
      outputs.some(({ view }) => view.strides[axis] === 1);
    return isStoredBy(rank + 1) || !isStoredBy(rank)
      ? kernel
      : transposed(kernel);
  }
  const load = (operand: Matrix, axis: number): Expr =>
    entry(operand, ({ offset, strides: all }) => {
      const strides = all.slice(0, rank);
      const [row, column] = all.slice(rank) as [number, number];
      strides.push(...axis === 0 ? [row, 0, column] : [0, column, row]);
      return { offset, strides };
    });
  const args = [load(a, 0), load(b, 1)];
  const body: Expr = { kind: "call", op: "mul", args, dtype: "f32" };
  const passes = [{ reductions: [{ combine: "sum", body }], outputs: [] }];
  const sum = { kind: "reduce", shape, over: [k], passes, outputs };
  return unrepeated(sum as ReduceKernel);
}

/** (a b)ᵀ = bᵀ aᵀ. */
export function transposed(
  { shape, k, a, b, outputs }: MatmulKernel,
): MatmulKernel {
  const rank = shape.length - 2;
  const swapped = (
    of: Shape,
  ) => [...of.slice(0, rank), of[rank + 1]!, of[rank]!];
  const swap = ({ offset, strides }: View): View => {
    return { offset, strides: swapped(strides) };
  };
  const rewrite = viewMapper(swap);
  return {
    kind: "matmul",
    shape: swapped(shape),
    k,
    a: mapMatrix(b, swap),
    b: mapMatrix(a, swap),
    outputs: outputs.map(({ buffer, view, expr }) => {
      return { buffer, view: swap(view), expr: rewrite(expr)! };
    }),
  };
}

/** Outputs in which expressions stand for what was accumulated. */
export function withAccs(
  outputs: readonly Output[],
  accs: readonly Expr[],
): Output[] {
  const rewrite = leafMapper((e) => e.kind === "acc" ? accs[e.index]! : e);
  return outputs.map((o) => ({ ...o, expr: rewrite(o.expr)! }));
}

/** What a reduction of nothing gives. */
function identity({ combine, body }: Reduction): Expr {
  const { dtype } = body;
  const least = dtype === "f32" ? -Infinity : dtype === "i32" ? -(2 ** 31) : 0;
  const value = combine === "sum" ? 0 : least;
  return { kind: "const", value, dtype };
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

function outputsOver(
  outputs: readonly Output[],
  axes: readonly Axis[],
  rewrite = viewMapper((view) => viewOver(view, axes)),
): Output[] {
  return outputs.map(({ buffer, view, expr }) => {
    return { buffer, view: viewOver(view, axes), expr: rewrite(expr)! };
  });
}

function viewOver({ offset, strides }: View, axes: readonly Axis[]): View {
  return { offset, strides: axes.map((a) => (strides[a.axis] ?? 0) * a.step) };
}
