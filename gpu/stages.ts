/**
 * Rewrites of steps before they become shaders: into simpler kernels where those do, and into two where one would keep
 * too few lanes busy.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { DType } from "../core/dtype.ts";
import type {
  Expr,
  Kernel,
  MatmulKernel,
  Output,
  Place,
  ReduceKernel,
  Step,
  View,
} from "../core/plan/kernel.ts";
import { sizeOf, stridesOf } from "../core/shape.ts";
import {
  type Access,
  accessesOf,
  loadsOf,
  rewriter,
  viewRewriter,
} from "./expr.ts";
import { merge } from "./merge.ts";
import type { Schedule } from "./schedule.ts";

/** The page of the arena that holds partial results between the two kernels of a step. */
export const scratchPage = -1;

const mostBuffers = 8;

/** The steps that do the work of one. */
export function stages(step: Step, schedule: Schedule): Step[] {
  const kernel = merge(step.kernel);
  if (sizeOf(kernel.shape) === 0) return [];
  switch (kernel.kind) {
    case "map":
    case "scatter":
      return [{ ...step, kernel }];
    case "reduce":
      return reduceStages(step, kernel, schedule.reduce);
    case "matmul":
      return matmulStages(step, kernel, schedule);
  }
}

function reduceStages(
  step: Step,
  kernel: ReduceKernel,
  schedule: Schedule["reduce"],
): Step[] {
  const { shape, over, combine, body, outputs } = kernel;
  if (sizeOf(over) === 0) return [withoutTerms(step, kernel, identity(kernel))];

  const rank = shape.length;
  const last = rank + over.length - 1;
  const inRows = over.length > 0 &&
    loadsOf([body]).some(({ view }) => view?.strides[last] === 1);
  const lanes = inRows ? schedule.lanes : 1;
  const extent = Math.max(1, ...over);
  const axis = rank + over.indexOf(extent);
  const pieces = Math.min(
    Math.ceil(schedule.enough / (sizeOf(shape) * lanes)),
    Math.floor(sizeOf(over) / (schedule.piece * lanes)),
    extent,
  );
  const fits = leavesRoom(loadsOf([body])) && leavesRoom(accessesOf(outputs));
  if (pieces < 2 || !fits) return [{ ...step, kernel }];

  // Whole groups of four, so that aligned rows stay aligned.
  const piece = Math.ceil(extent / pieces / 4) * 4;
  const count = Math.ceil(extent / piece);
  const cut = ({ offset, strides }: View): View => ({
    offset,
    strides: [strides[axis]! * piece, ...strides],
  });
  const partial = viewRewriter(cut)(body);
  return [
    toScratch(step, [count, ...shape], body.dtype, {
      kind: "reduce",
      combine,
      over: over.with(axis - rank, piece),
      body: extent % piece === 0 ? partial : select(
        isBelow(cut({ offset: 0, strides: unit(axis, last + 1) }), extent),
        partial,
        identity(kernel),
      ),
    }),
    fromScratch(step, kernel, count, combine, body.dtype),
  ];
}

/** Whether the value of a view is below a limit. */
function isBelow(view: View, limit: number): Expr {
  const dtype = "i32";
  const args: Expr[] = [
    { kind: "index", view, dtype },
    { kind: "const", value: limit, dtype },
  ];
  return { kind: "call", op: "lt", args, dtype: "bool" };
}

function select(condition: Expr, a: Expr, b: Expr): Expr {
  const args = [condition, a, b];
  return { kind: "call", op: "select", args, dtype: a.dtype };
}

function matmulStages(
  step: Step,
  kernel: MatmulKernel,
  schedule: Schedule,
): Step[] {
  const { shape, k, a, b, outputs } = kernel;
  const rank = shape.length;
  const [m, n] = [shape[rank - 2]!, shape[rank - 1]!];
  if (k === 0) {
    return [withoutTerms(step, kernel, {
      kind: "const",
      value: 0,
      dtype: "f32",
    })];
  }
  if (m === 1 || n === 1) {
    const product = merge(asReduction(kernel)) as ReduceKernel;
    return reduceStages(step, product, schedule.reduce);
  }

  const workgroups = sizeOf(shape.slice(0, -2)) * Math.ceil(m / 32) *
    Math.ceil(n / 64);
  let pieces = Math.min(
    Math.ceil(schedule.matmul.enough / workgroups),
    Math.floor(k / schedule.matmul.piece),
  );
  while (pieces > 1 && k % (4 * pieces) !== 0) pieces--;
  if (pieces < 2 || !leavesRoom(accessesOf(outputs))) {
    return [{ ...step, kernel }];
  }

  const piece = k / pieces;
  const cut = ({ offset, strides }: View, axis: number): View => ({
    offset,
    strides: [strides[axis]! * piece, ...strides],
  });
  return [
    toScratch(step, [pieces, ...shape], "f32", {
      kind: "matmul",
      k: piece,
      a: { ...a, view: cut(a.view, rank - 1) },
      b: { ...b, view: cut(b.view, rank - 2) },
    }),
    fromScratch(step, kernel, pieces, "sum", "f32"),
  ];
}

/** A product with a single row or column as a sum of products. */
function asReduction(kernel: MatmulKernel): ReduceKernel {
  const { shape, k, a, b, outputs } = kernel;
  const rank = shape.length;
  const load = (buffer: number, offset: number, strides: number[]): Expr => ({
    kind: "load",
    buffer,
    view: { offset, strides },
    dtype: "f32",
  });
  const [left, right] = [a.view.strides, b.view.strides];
  return {
    kind: "reduce",
    shape,
    over: [k],
    combine: "sum",
    body: {
      kind: "call",
      op: "mul",
      args: [
        load(a.buffer, a.view.offset, [
          ...left.slice(0, rank - 1),
          0,
          left[rank - 1]!,
        ]),
        load(b.buffer, b.view.offset, [
          ...right.slice(0, rank - 2),
          0,
          right[rank - 1]!,
          right[rank - 2]!,
        ]),
      ],
      dtype: "f32",
    },
    outputs,
  };
}

/** A reduction of nothing: a map of its identity. */
function withoutTerms(
  step: Step,
  { shape, outputs }: ReduceKernel | MatmulKernel,
  value: Expr,
): Step {
  const fill = rewriter((expr) => expr.kind === "acc" ? value : expr);
  const kernel = merge({
    kind: "map",
    shape,
    outputs: outputs.map((output) => ({ ...output, expr: fill(output.expr) })),
  });
  return { ...step, kernel };
}

function identity({ combine, body }: ReduceKernel): Expr {
  const value = combine === "sum" ? 0 : -Infinity;
  return { kind: "const", value, dtype: body.dtype };
}

/** The first stage: a kernel whose results over `shape` go to the scratch page. */
function toScratch(
  step: Step,
  shape: readonly number[],
  dtype: DType,
  kernel:
    | Omit<ReduceKernel, "shape" | "outputs">
    | Omit<MatmulKernel, "shape" | "outputs">,
): Step {
  const outputs: Output[] = [{
    buffer: step.buffers.length,
    view: { offset: 0, strides: stridesOf(shape) },
    expr: { kind: "acc", dtype },
  }];
  return withScratch(step, { ...kernel, shape, outputs }, sizeOf(shape), dtype);
}

/** The second stage: the results on the scratch page combined, and what the whole step stores. */
function fromScratch(
  step: Step,
  { shape, outputs }: ReduceKernel | MatmulKernel,
  pieces: number,
  combine: ReduceKernel["combine"],
  dtype: DType,
): Step {
  const size = sizeOf(shape);
  const body: Expr = {
    kind: "load",
    buffer: step.buffers.length,
    view: { offset: 0, strides: [...stridesOf(shape), size] },
    dtype,
  };
  const kernel = merge({
    kind: "reduce",
    shape,
    over: [pieces],
    combine,
    body,
    outputs,
  });
  return withScratch(step, kernel, pieces * size, dtype);
}

/** A kernel on the buffers of a step and, after them, the scratch page. */
function withScratch(
  step: Step,
  kernel: Kernel,
  elements: number,
  dtype: DType,
): Step {
  const scratch: Place = {
    kind: "arena",
    page: scratchPage,
    offset: 0,
    bytes: 4 * elements,
  };
  return {
    kernel,
    buffers: [...step.buffers, scratch],
    dtypes: [...step.dtypes, dtype],
  };
}

/** Whether a kernel with these accesses has a binding left for the scratch page. */
function leavesRoom(accesses: readonly Access[]): boolean {
  return new Set(accesses.map(({ buffer }) => buffer)).size < mostBuffers;
}

function unit(axis: number, rank: number): number[] {
  return Array.from({ length: rank }, (_, i) => i === axis ? 1 : 0);
}
