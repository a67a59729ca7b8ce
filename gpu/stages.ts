/**
 * Rewrites of steps before they become shaders: into simpler kernels where those do, and into two where one would keep
 * too few lanes busy.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Limits } from "../core/backend.ts";
import { coalesce } from "../core/plan/coalesce.ts";
import { entry } from "../core/plan/expression.ts";
import type {
  Expr,
  GroupKernel,
  MatmulKernel,
  Matrix,
  ReduceKernel,
  Reduction,
  ScatterKernel,
  SimpleKernel,
  Step,
  View,
} from "../core/plan/kernel.ts";
import { bindingsOfAnyPoint } from "../core/plan/reach.ts";
import { sizeOf } from "../core/shape.ts";
import { reduceLanes } from "./kernels/reduce.ts";
import { identity, reduceStages, withoutTerms } from "./reduce_stages.ts";
import { mostIterations, type Schedule } from "./schedule.ts";
import { fromScratch, toScratch } from "./scratch.ts";
import { sliced } from "./windows.ts";

/** The steps that do the work of one; the parts of a group among them have equally many lanes. */
export function stages(
  step: Step,
  schedule: Schedule,
  limits: Limits,
): Step[] {
  const { kernel } = step;
  return kernel.kind === "group"
    ? groupStages(step, kernel, schedule, limits)
    : simpleStages(step, kernel, schedule, limits);
}

function simpleStages(
  step: Step,
  simple: SimpleKernel,
  schedule: Schedule,
  limits: Limits,
): Step[] {
  if (sizeOf(simple.shape) === 0) return [];
  const kernel = coalesce(simple) as SimpleKernel;
  switch (kernel.kind) {
    case "map":
    case "fused":
      return [{ ...step, kernel }];
    case "scatter":
      return scatterStages(step, kernel);
    case "reduce":
      return reduceStages(step, kernel, schedule.reduce, limits);
    case "matmul":
      return matmulStages(step, kernel, schedule, limits);
  }
}

/** A scatter in parts one after another, each with few enough points along the axis. */
function scatterStages(step: Step, kernel: ScatterKernel): Step[] {
  const { shape, axis } = kernel;
  const extent = shape[axis]!;
  const steps: Step[] = [];
  for (let from = 0; from < extent; from += mostIterations) {
    const size = Math.min(mostIterations, extent - from);
    steps.push({ ...step, kernel: sliced(kernel, axis, from, size) });
  }
  return steps;
}

/** Parts that are one step each run together where they have equally many lanes. */
function groupStages(
  step: Step,
  { kind, parts }: GroupKernel,
  schedule: Schedule,
  limits: Limits,
): Step[] {
  const alone: Step[] = [];
  const joined = new Map<number, SimpleKernel[]>();
  for (const part of parts) {
    const steps = simpleStages(step, part, schedule, limits);
    const kernel = steps.length === 1 ? steps[0]!.kernel : null;
    if (kernel?.kind === "map" || kernel?.kind === "reduce") {
      const lanes = kernel.kind === "map"
        ? schedule.invocations.workgroup
        : reduceLanes(kernel, schedule);
      joined.set(lanes, [...joined.get(lanes) ?? [], kernel]);
    } else {
      alone.push(...steps);
    }
  }
  const groups = [...joined.values()].map((parts): Step => ({
    ...step,
    kernel: { kind, parts },
  }));
  return [...alone, ...groups];
}

function matmulStages(
  step: Step,
  kernel: MatmulKernel,
  schedule: Schedule,
  limits: Limits,
): Step[] {
  const { shape, k, a, b, outputs } = kernel;
  const rank = shape.length;
  const [m, n] = [shape[rank - 2]!, shape[rank - 1]!];
  if (k === 0) {
    return [withoutTerms(step, kernel, [identity(product)])];
  }
  const { buffersPerKernel } = limits;
  const isSum = m === 1 || n === 1 || k > 4 * mostIterations ||
    bindingsOfAnyPoint(kernel, limits) > buffersPerKernel;
  if (isSum) {
    const sum = coalesce(asReduction(kernel)) as ReduceKernel;
    return reduceStages(step, sum, schedule.reduce, limits);
  }

  const workgroups = sizeOf(shape.slice(0, -2)) * Math.ceil(m / 32) *
    Math.ceil(n / 64);
  let pieces = Math.min(
    Math.ceil(schedule.matmul.enough / workgroups),
    Math.floor(k / schedule.matmul.piece),
  );
  while (pieces > 1 && k % (4 * pieces) !== 0) pieces--;
  const results = bindingsOfAnyPoint({ kind: "map", shape, outputs }, limits);
  if (pieces < 2 || results >= buffersPerKernel) {
    return [{ ...step, kernel }];
  }

  const piece = k / pieces;
  const cut = ({ offset, strides }: View, axis: number): View => ({
    offset,
    strides: [strides[axis]! * piece, ...strides],
  });
  return [
    toScratch(step, [pieces, ...shape], ["f32"], limits, {
      kind: "matmul",
      k: piece,
      a: { ...a, view: cut(a.view, rank - 1) },
      b: { ...b, view: cut(b.view, rank - 2) },
    }),
    fromScratch(step, kernel, pieces, [product], limits),
  ];
}

/** What a product accumulates, but for the body. */
const product: Reduction = {
  combine: "sum",
  body: { kind: "const", value: 0, dtype: "f32" },
};

/** A product with a single row or column as a sum of products. */
function asReduction(kernel: MatmulKernel): ReduceKernel {
  const { shape, k, a, b, outputs } = kernel;
  const rank = shape.length;
  const load = (operand: Matrix, strides: number[]): Expr =>
    entry(operand, ({ offset }) => ({ offset, strides }));
  const [left, right] = [a.view.strides, b.view.strides];
  const body: Expr = {
    kind: "call",
    op: "mul",
    args: [
      load(a, [
        ...left.slice(0, rank - 1),
        0,
        left[rank - 1]!,
      ]),
      load(b, [
        ...right.slice(0, rank - 2),
        0,
        right[rank - 1]!,
        right[rank - 2]!,
      ]),
    ],
    dtype: "f32",
  };
  const reductions: Reduction[] = [{ combine: "sum", body }];
  const passes = [{ reductions, outputs: [] }];
  return { kind: "reduce", shape, over: [k], passes, outputs };
}
