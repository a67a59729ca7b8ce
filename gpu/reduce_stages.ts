/**
 * Reductions in stages: in pieces whose results are combined where one kernel would keep too few lanes busy, and as maps
 * where there is nothing to reduce.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Limits } from "../core/backend.ts";
import { coalesce } from "../core/plan/coalesce.ts";
import { leafMapper, viewMapper } from "../core/plan/expression.ts";
import {
  bindingsOfAnyPoint,
  endsOf,
  fewestBindings,
  reachOf,
} from "../core/plan/reach.ts";
import type {
  Expr,
  MatmulKernel,
  Output,
  ReduceKernel,
  Reduction,
  SimpleKernel,
  Step,
  View,
} from "../core/plan/kernel.ts";
import { type Shape, sizeOf, stridesOf } from "../core/shape.ts";
import { loadsOf, widest } from "./expr.ts";
import type { Schedule } from "./schedule.ts";
import { dtypeOf, fromScratch, toScratch, withScratch } from "./scratch.ts";

/** Terms that keep several kernels busy. */
const longRow = 2 ** 16;

/** The steps that do the work of a reduction. */
export function reduceStages(
  step: Step,
  kernel: ReduceKernel,
  schedule: Schedule["reduce"],
  limits: Limits,
): Step[] {
  const { shape, over, passes, outputs } = kernel;
  const fits = (kernel: SimpleKernel): boolean =>
    bindingsOfAnyPoint(kernel, limits) <= limits.buffersPerKernel;
  if (sizeOf(over) === 0) {
    const reductions = passes.flatMap((pass) => pass.reductions);
    return [withoutTerms(step, kernel, reductions.map(identity))];
  }
  if (passes.length > 1 || passes[0]!.outputs.length > 0) {
    return passStages(step, kernel, schedule, limits);
  }
  const { reductions } = passes[0]!;
  if (reductions.length === 0) return [withoutTerms(step, kernel, [])];
  const loads = loadsOf(reductions.map(({ body }) => body));
  const rank = shape.length;
  const last = rank + over.length - 1;
  const inRows = over.length > 0 &&
    widest(loads, [rank - 1, last]).some(({ view }) =>
      view?.strides[last] === 1
    );
  const lanes = inRows ? schedule.lanes : 1;
  const enough = inRows ? schedule.enough : schedule.enoughColumns;
  const extent = Math.max(1, ...over);
  const axis = rank + over.indexOf(extent);
  const wanted = Math.min(
    Math.ceil(enough / (sizeOf(shape) * lanes)),
    Math.floor(sizeOf(over) / (schedule.piece * lanes)),
    extent,
  );
  const mustCut = !fits(kernel);
  // Whole groups of four, so that aligned rows stay aligned.
  const pieceOf = (pieces: number): number => {
    const length = Math.ceil(extent / pieces);
    return mustCut && length < 4 ? length : Math.ceil(length / 4) * 4;
  };
  const ends = endsOf(reachOf(kernel));
  const room = limits.buffersPerKernel - reductions.length;
  const hasRoom = (kernel: SimpleKernel): boolean =>
    bindingsOfAnyPoint(kernel, limits, ends) <= room;
  const piecesFit = (pieces: number): boolean =>
    hasRoom({
      ...kernel,
      over: over.with(axis - rank, pieceOf(pieces)),
      outputs: [],
    });
  let pieces = wanted;
  if (mustCut) {
    pieces = Math.min(Math.max(pieces, 2), extent);
    while (pieces < extent && !piecesFit(pieces)) {
      pieces = Math.min(2 * pieces, extent);
    }
  }
  const canCut = pieces > 1 && (mustCut || piecesFit(pieces)) &&
    hasRoom({ kind: "map", shape, outputs });
  if (!canCut) return [{ ...step, kernel }];

  const piece = pieceOf(pieces);
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
    toScratch(step, [count, ...shape], reductions.map(dtypeOf), limits, {
      kind: "reduce",
      over: over.with(axis - rank, piece),
      passes: [{ reductions: partial, outputs: [] }],
    }),
    fromScratch(step, kernel, count, reductions, limits),
  ].flatMap((stage) => {
    const { kernel } = stage;
    const isShorter = kernel.kind === "reduce" &&
      sizeOf(kernel.over) < sizeOf(over);
    return isShorter && !fits(kernel)
      ? reduceStages(stage, kernel, schedule, limits)
      : [stage];
  });
}

/**
 * Passes over few and very long rows: each reduction and each store is a kernel of its own, and accumulators go from one
 * to the next on the scratch page.
 */
function passStages(
  step: Step,
  kernel: ReduceKernel,
  schedule: Schedule["reduce"],
  limits: Limits,
): Step[] {
  const { shape, over, passes, outputs } = kernel;
  const { buffersPerKernel } = limits;
  const isLong = sizeOf(over) >= longRow &&
    sizeOf(shape) * schedule.lanes * 16 <= schedule.enough;
  const fits = bindingsOfAnyPoint(kernel, limits) <= buffersPerKernel;
  if (!isLong && fits) return [{ ...step, kernel }];

  const dtypes = passes.flatMap((p) => p.reductions.map(dtypeOf));
  const buffer = (index: number): number => step.buffers.length + index;
  const view = { offset: 0, strides: stridesOf(shape) };
  const among = (axes: Shape) =>
    leafMapper((e) =>
      e.kind !== "acc" ? e : {
        kind: "load",
        buffer: buffer(e.index),
        view: { offset: 0, strides: [...view.strides, ...axes.map(() => 0)] },
        dtype: e.dtype,
      }
    );
  const map = (outputs: readonly Output[], axes: Shape): SimpleKernel[] => {
    const read = among(axes);
    const stored = outputs.map((o) => ({ ...o, expr: read(o.expr)! }));
    return outputs.length === 0
      ? []
      : [{ kind: "map", shape: [...shape, ...axes], outputs: stored }];
  };
  let count = 0;
  const kernels = passes.flatMap((pass) => {
    const read = among(over);
    const reductions = pass.reductions.map((r) => ({
      ...r,
      body: read(r.body)!,
    }));
    const kept = reductions.map(({ body: { dtype } }, index): Output => ({
      buffer: buffer(count++),
      view,
      expr: { kind: "acc", index, dtype },
    }));
    const sums: SimpleKernel[] = kept.length === 0 ? [] : [{
      ...kernel,
      passes: [{ reductions, outputs: [] }],
      outputs: kept,
    }];
    return [...sums, ...map(pass.outputs, over)];
  });
  const all = [...kernels, ...map(outputs, [])].map(coalesce) as SimpleKernel[];
  return all.some((k) => fewestBindings(k, limits) > buffersPerKernel)
    ? [{ ...step, kernel }]
    : all.flatMap((k) => {
      const part = withScratch(step, k, sizeOf(shape), dtypes, limits);
      return k.kind === "reduce"
        ? reduceStages(part, k, schedule, limits)
        : [part];
    });
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

/** Reductions of nothing: a map of their identities. */
export function withoutTerms(
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

/** What a reduction of nothing gives. */
export function identity({ combine, body }: Reduction): Expr {
  const value = combine === "sum" ? 0 : -Infinity;
  return { kind: "const", value, dtype: body.dtype };
}

function unit(axis: number, rank: number): number[] {
  return Array.from({ length: rank }, (_, i) => i === axis ? 1 : 0);
}
