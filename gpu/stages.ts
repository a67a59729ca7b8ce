/**
 * Rewrites of steps before they become shaders: into simpler kernels where those do, and into two where one would keep
 * too few lanes busy.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { DType } from "../core/dtype.ts";
import { coalesce } from "../core/plan/coalesce.ts";
import { leafMapper, viewMapper } from "../core/plan/expression.ts";
import type {
  Expr,
  GroupKernel,
  Kernel,
  MatmulKernel,
  Output,
  Place,
  ReduceKernel,
  Reduction,
  SimpleKernel,
  Step,
  View,
} from "../core/plan/kernel.ts";
import { sizeOf, stridesOf } from "../core/shape.ts";
import { alignment, roundUp } from "./buffers.ts";
import { type Access, accessesOf, loadsOf } from "./expr.ts";
import { reduceLanes } from "./kernels/reduce.ts";
import type { Schedule } from "./schedule.ts";

/** The page of the arena that holds partial results between the two kernels of a step. */
export const scratchPage = -1;

const mostBuffers = 8;

/** The steps that do the work of one; the parts of a group among them have equally many lanes. */
export function stages(step: Step, schedule: Schedule): Step[] {
  const { kernel } = step;
  return kernel.kind === "group"
    ? groupStages(step, kernel, schedule)
    : simpleStages(step, kernel, schedule);
}

function simpleStages(
  step: Step,
  simple: SimpleKernel,
  schedule: Schedule,
): Step[] {
  if (sizeOf(simple.shape) === 0) return [];
  const kernel = coalesce(simple) as SimpleKernel;
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

/** Parts that are one step each run together where they have equally many lanes. */
function groupStages(
  step: Step,
  { kind, parts }: GroupKernel,
  schedule: Schedule,
): Step[] {
  const alone: Step[] = [];
  const joined = new Map<number, SimpleKernel[]>();
  for (const part of parts) {
    const steps = simpleStages(step, part, schedule);
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

function reduceStages(
  step: Step,
  kernel: ReduceKernel,
  schedule: Schedule["reduce"],
): Step[] {
  const { shape, over, passes, outputs } = kernel;
  if (sizeOf(over) === 0) {
    const reductions = passes.flatMap((pass) => pass.reductions);
    return [withoutTerms(step, kernel, reductions.map(identity))];
  }
  const { reductions } = passes[0]!;
  const loads = loadsOf(reductions.map(({ body }) => body));
  const rank = shape.length;
  const last = rank + over.length - 1;
  const inRows = over.length > 0 &&
    loads.some(({ view }) => view?.strides[last] === 1);
  const lanes = inRows ? schedule.lanes : 1;
  const extent = Math.max(1, ...over);
  const axis = rank + over.indexOf(extent);
  const pieces = Math.min(
    Math.ceil(schedule.enough / (sizeOf(shape) * lanes)),
    Math.floor(sizeOf(over) / (schedule.piece * lanes)),
    extent,
  );
  const isPlain = passes.length === 1 && passes[0]!.outputs.length === 0 &&
    reductions.length > 0;
  const room = mostBuffers - reductions.length;
  const fits = countOf(loads) <= room && countOf(accessesOf(outputs)) <= room;
  if (pieces < 2 || !isPlain || !fits) return [{ ...step, kernel }];

  // Whole groups of four, so that aligned rows stay aligned.
  const piece = Math.ceil(extent / pieces / 4) * 4;
  const count = Math.ceil(extent / piece);
  const cut = ({ offset, strides }: View): View => ({
    offset,
    strides: [strides[axis]! * piece, ...strides],
  });
  const cutViews = viewMapper(cut);
  const isInside = isBelow(
    cut({ offset: 0, strides: unit(axis, last + 1) }),
    extent,
  );
  const partial = reductions.map((reduction): Reduction => {
    const body = cutViews(reduction.body)!;
    return {
      ...reduction,
      body: extent % piece === 0
        ? body
        : select(isInside, body, identity(reduction)),
    };
  });
  return [
    toScratch(step, [count, ...shape], reductions.map(dtypeOf), {
      kind: "reduce",
      over: over.with(axis - rank, piece),
      passes: [{ reductions: partial, outputs: [] }],
    }),
    fromScratch(step, kernel, count, reductions),
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
    return [withoutTerms(step, kernel, [identity(product)])];
  }
  if (m === 1 || n === 1) {
    const sum = coalesce(asReduction(kernel)) as ReduceKernel;
    return reduceStages(step, sum, schedule.reduce);
  }

  const workgroups = sizeOf(shape.slice(0, -2)) * Math.ceil(m / 32) *
    Math.ceil(n / 64);
  let pieces = Math.min(
    Math.ceil(schedule.matmul.enough / workgroups),
    Math.floor(k / schedule.matmul.piece),
  );
  while (pieces > 1 && k % (4 * pieces) !== 0) pieces--;
  if (pieces < 2 || countOf(accessesOf(outputs)) >= mostBuffers) {
    return [{ ...step, kernel }];
  }

  const piece = k / pieces;
  const cut = ({ offset, strides }: View, axis: number): View => ({
    offset,
    strides: [strides[axis]! * piece, ...strides],
  });
  return [
    toScratch(step, [pieces, ...shape], ["f32"], {
      kind: "matmul",
      k: piece,
      a: { ...a, view: cut(a.view, rank - 1) },
      b: { ...b, view: cut(b.view, rank - 2) },
    }),
    fromScratch(step, kernel, pieces, [product]),
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
  const load = (buffer: number, offset: number, strides: number[]): Expr => ({
    kind: "load",
    buffer,
    view: { offset, strides },
    dtype: "f32",
  });
  const [left, right] = [a.view.strides, b.view.strides];
  const body: Expr = {
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
  };
  const reductions: Reduction[] = [{ combine: "sum", body }];
  const passes = [{ reductions, outputs: [] }];
  return { kind: "reduce", shape, over: [k], passes, outputs };
}

/** Reductions of nothing: a map of their identities. */
function withoutTerms(
  step: Step,
  { shape, outputs }: ReduceKernel | MatmulKernel,
  values: readonly Expr[],
): Step {
  const fill = leafMapper((e) => e.kind === "acc" ? values[e.index]! : e);
  const kernel = coalesce({
    kind: "map",
    shape,
    outputs: outputs.map((o) => ({ ...o, expr: fill(o.expr)! })),
  });
  return { ...step, kernel };
}

function identity({ combine, body }: Reduction): Expr {
  const value = combine === "sum" ? 0 : -Infinity;
  return { kind: "const", value, dtype: body.dtype };
}

function dtypeOf({ body }: Reduction): DType {
  return body.dtype;
}

/** The first stage: a kernel whose results over `shape` go to the scratch page. */
function toScratch(
  step: Step,
  shape: readonly number[],
  dtypes: readonly DType[],
  kernel:
    | Omit<ReduceKernel, "shape" | "outputs">
    | Omit<MatmulKernel, "shape" | "outputs">,
): Step {
  const outputs = dtypes.map((dtype, index): Output => ({
    buffer: step.buffers.length + index,
    view: { offset: 0, strides: stridesOf(shape) },
    expr: { kind: "acc", index, dtype },
  }));
  const whole = { ...kernel, shape, outputs };
  return withScratch(step, whole, sizeOf(shape), dtypes);
}

/** The second stage: the results on the scratch page combined, and what the whole step stores. */
function fromScratch(
  step: Step,
  { shape, outputs }: ReduceKernel | MatmulKernel,
  pieces: number,
  combined: readonly Reduction[],
): Step {
  const size = sizeOf(shape);
  const dtypes = combined.map(dtypeOf);
  const view = { offset: 0, strides: [...stridesOf(shape), size] };
  const reductions = combined.map(({ combine }, i): Reduction => ({
    combine,
    body: {
      kind: "load",
      buffer: step.buffers.length + i,
      view,
      dtype: dtypes[i]!,
    },
  }));
  const kernel = coalesce({
    kind: "reduce",
    shape,
    over: [pieces],
    passes: [{ reductions, outputs: [] }],
    outputs,
  });
  return withScratch(step, kernel, pieces * size, dtypes);
}

/** A kernel on the buffers of a step and, after them, regions of the scratch page. */
function withScratch(
  step: Step,
  kernel: Kernel,
  elements: number,
  dtypes: readonly DType[],
): Step {
  const bytes = 4 * elements;
  const regions = dtypes.map((_, i): Place => ({
    kind: "arena",
    page: scratchPage,
    offset: i * roundUp(bytes, alignment),
    bytes,
  }));
  return {
    kernel,
    buffers: [...step.buffers, ...regions],
    dtypes: [...step.dtypes, ...dtypes],
  };
}

/** How many buffers accesses go to. */
function countOf(accesses: readonly Access[]): number {
  return new Set(accesses.map(({ buffer }) => buffer)).size;
}

function unit(axis: number, rank: number): number[] {
  return Array.from({ length: rank }, (_, i) => i === axis ? 1 : 0);
}
