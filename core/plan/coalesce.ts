/**
 * Coalescing: neighbouring loops of a kernel become one where every view allows it, so that inner loops are long.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Shape } from "../shape.ts";
import { mapMatrix, viewMapper, viewsOf } from "./expression.ts";
import type {
  Expr,
  Kernel,
  MatmulKernel,
  Matrix,
  Output,
  View,
} from "./kernel.ts";

/** Loops as runs of old axes: each new axis is the old axes [first, last], of which `size` is the product. */
interface Run {
  readonly axes: readonly number[];
  readonly size: number;
}

/** The kernel with as few loops as its views allow. */
export function coalesce(kernel: Kernel): Kernel {
  switch (kernel.kind) {
    case "map": {
      const runs = runsOf(kernel.shape, outputViews(kernel.outputs));
      return {
        ...kernel,
        shape: sizes(runs),
        outputs: joinOutputs(kernel.outputs, runs),
      };
    }
    case "reduce": {
      const { shape, over, passes, outputs } = kernel;
      const views = passes.flatMap((p) => [
        ...p.reductions.flatMap(({ body }) => viewsOf(body)),
        ...outputViews(p.outputs),
      ]);
      const outer = runsOf(shape, [...views, ...outputViews(outputs)]);
      const all = [...outer, ...runsOf(over, views, shape.length)];
      const join = joiner(all);
      return {
        ...kernel,
        shape: sizes(outer),
        over: sizes(all.slice(outer.length)),
        passes: passes.map(({ reductions, outputs }) => ({
          reductions: reductions.map((r) => ({ ...r, body: join(r.body) })),
          outputs: joinOutputs(outputs, all, join),
        })),
        outputs: joinOutputs(outputs, outer),
      };
    }
    case "matmul":
      return joinBatch(kernel);
    case "scatter":
    case "fused":
      return kernel;
    case "group":
      return {
        ...kernel,
        parts: kernel.parts.map((part) => coalesce(part) as typeof part),
      };
  }
}

function outputViews(outputs: readonly Output[]): View[] {
  return outputs.flatMap(({ view, expr }) => [view, ...viewsOf(expr)]);
}

/** Axes of `shape`, which the views number from `first`, in runs that every view passes with one stride. */
function runsOf(shape: Shape, views: readonly View[], first = 0): Run[] {
  const runs: { axes: number[]; size: number }[] = [];
  shape.forEach((size, i) => {
    if (size === 1) return;
    const axis = first + i;
    const last = runs.at(-1);
    const outer = last?.axes.at(-1);
    const joins = outer !== undefined &&
      views.every(({ strides }) => strides[outer] === strides[axis]! * size);
    if (joins) {
      last!.axes.push(axis);
      last!.size *= size;
    } else {
      runs.push({ axes: [axis], size });
    }
  });
  return runs;
}

function sizes(runs: readonly Run[]): number[] {
  return runs.map(({ size }) => size);
}

/** A view over the runs: the stride of a run is that of its innermost axis. */
function joinView({ offset, strides }: View, runs: readonly Run[]): View {
  return { offset, strides: runs.map(({ axes }) => strides[axes.at(-1)!]!) };
}

/** A function that takes expressions to the runs. */
function joiner(runs: readonly Run[]): (expr: Expr) => Expr {
  const join = viewMapper((view) => joinView(view, runs));
  return (expr) => join(expr)!;
}

function joinOutputs(
  outputs: readonly Output[],
  runs: readonly Run[],
  join: (expr: Expr) => Expr = joiner(runs),
): Output[] {
  return outputs.map(({ buffer, view, expr }) => ({
    buffer,
    view: joinView(view, runs),
    expr: join(expr),
  }));
}

/** Joins the batch axes of a product, and the last of them with the rows where `b` is the same for all. */
function joinBatch(kernel: MatmulKernel): MatmulKernel {
  const rank = kernel.shape.length - 2;
  const batch = kernel.shape.slice(0, rank);
  const [m, n] = kernel.shape.slice(rank) as [number, number];
  const results = outputViews(kernel.outputs);
  const views = [kernel.a.view, kernel.b.view, ...results];
  const runs = runsOf(batch, views);
  const rows: Run = { axes: [rank], size: m }, last = runs.at(-1);
  const outer = last?.axes.at(-1);
  const joins = outer !== undefined && kernel.b.view.strides[outer] === 0 &&
    [kernel.a.view, ...results].every(({ strides }) =>
      strides[outer] === strides[rank]! * m
    );
  const kept = joins ? runs.slice(0, -1) : runs;
  const allRows = joins
    ? { axes: [...last!.axes, rank], size: last!.size * m }
    : rows;
  const columns: Run = { axes: [rank + 1], size: n };
  const inA = [...kept, allRows, columns];
  const inB = [...kept, rows, columns];
  const matrix = (operand: Matrix, axes: Run[]): Matrix => {
    return mapMatrix(operand, (view) => joinView(view, axes));
  };
  return {
    ...kernel,
    shape: sizes(inA),
    a: matrix(kernel.a, inA),
    b: matrix(kernel.b, inB),
    outputs: joinOutputs(kernel.outputs, inA),
  };
}
