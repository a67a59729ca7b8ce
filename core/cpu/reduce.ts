/**
 * Reductions as WebAssembly.
 *
 * Lanes lie along the innermost reduced axis, with several accumulators to hide the latency of an addition, or along
 * the innermost outer axis, with an accumulator for each vector of results. A long reduction becomes one over short
 * runs and one over their results: sums lose less to rounding, and columns are summed in the order of memory.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { mapViews } from "../plan/expression.ts";
import type { Expr, ReduceKernel, View } from "../plan/kernel.ts";
import { type Shape, sizeOf, stridesOf } from "../shape.ts";
import { arrangeReduce } from "./arrange.ts";
import type { Local } from "./assembler.ts";
import type { Lanes, Vec } from "./lanes.ts";
import { copiesFor, emitMap, storeAll } from "./map.ts";
import { Nest, phasesOf } from "./nest.ts";
import { f32x4, i32x4, v128 } from "./opcodes.ts";

/** Most elements that are combined one after another, by where the lanes lie. */
const RUN = { along: 1024, across: 32 };

/** Most bytes for results of runs. */
const MOST_SCRATCH = 2 ** 26;

/** A way to combine, with as many vectors of state as it needs. */
interface Combiner {
  /** State before the first element. */
  readonly start: readonly Vec[];
  /** State after one more element. */
  add(state: readonly Vec[], x: Vec): readonly Vec[];
  /** The value of a state. */
  value(state: readonly Vec[]): Vec;
}

/** Emits a reduction; its buffers and then scratch memory are the parameters. Gives the bytes of scratch in use. */
export function emitReduce(
  lanes: Lanes,
  kernel: ReduceKernel,
  scratch: Local,
  scratchBytes = 0,
): number {
  if (sizeOf(kernel.shape) === 0) return scratchBytes;
  const arranged = arrangeReduce(kernel);
  if (arranged.kind === "map") {
    emitMap(lanes, arranged);
    return scratchBytes;
  }
  const rank = arranged.shape.length;
  const isAlong = arranged.lane >= rank;
  const isExact = arranged.combine === "max" || arranged.body.dtype !== "f32";
  const isShort = isAlong
    ? isExact || sizeOf(arranged.over) <= RUN.along
    : sizeOf(arranged.over) <= RUN.across;
  const runs = isShort
    ? null
    : inRuns(arranged, isAlong, scratch, scratchBytes);
  if (!runs) {
    if (isAlong) emitAlong(lanes, arranged);
    else emitAcross(lanes, arranged);
    return scratchBytes;
  }
  const used = runs.parts.map((part) =>
    emitReduce(lanes, part, scratch, scratchBytes + runs.bytes)
  );
  return Math.max(...used);
}

/** Lanes along the last reduced axis: folded into one result, with the elements that do not fill a vector. */
function emitAlong(lanes: Lanes, kernel: ReduceKernel): void {
  const { shape, over, body, outputs } = kernel;
  const rank = shape.length, last = rank + over.length - 1;
  const nest = nestOf(lanes, kernel, last);
  const combiner = combinerOf(lanes, kernel);
  const { add, start, value } = combiner;
  const combine = (a: Vec, b: Vec) => value(add(add(start, a), b));
  const copies = copiesFor([body]);
  nest.enter(() =>
    nest.loops(shape, 0, () => {
      const vectors = Array.from(
        { length: copies },
        () => variables(lanes, start),
      );
      const tail = variables(lanes, start);
      nest.loops(over.slice(0, -1), rank, () =>
        nest.loop(last, 0, over.at(-1)!, (phase) => {
          for (let copy = 0; copy < phase.copies; copy++) {
            const state = phase.width === 4 ? vectors[copy]! : tail;
            step(nest, kernel, combiner, state, copy);
          }
        }, phasesOf(copies)));
      const total = vectors.map(value).reduce(combine);
      nest.accumulators = [combine(lanes.fold(total, combine), value(tail))];
      storeAll(nest, outputs, 1);
    })
  );
}

/** Lanes along the last outer axis: a result in each. */
function emitAcross(lanes: Lanes, kernel: ReduceKernel): void {
  const { shape, over, body, outputs } = kernel;
  const lane = shape.length - 1;
  const nest = nestOf(lanes, kernel, lane);
  const combiner = combinerOf(lanes, kernel);
  nest.enter(() =>
    nest.loops(
      shape.slice(0, -1),
      0,
      () =>
        nest.loop(lane, 0, shape[lane]!, ({ copies }) => {
          const states = Array.from(
            { length: copies },
            () => variables(lanes, combiner.start),
          );
          nest.loops(over, shape.length, () =>
            states.forEach((state, copy) =>
              step(nest, kernel, combiner, state, copy)
            ));
          nest.accumulators = states.map(combiner.value);
          storeAll(nest, outputs, copies);
        }, phasesOf(2 * copiesFor([body]))),
    )
  );
}

function nestOf(lanes: Lanes, kernel: ReduceKernel, lane: number): Nest {
  const { shape, over, body, outputs } = kernel;
  return new Nest(lanes, lane, [
    { exprs: [body], within: shape.length + over.length - 1 },
    { exprs: outputs.map((o) => o.expr), within: shape.length - 1 },
  ], outputs);
}

/** Combines the body at the current point into a state. */
function step(
  nest: Nest,
  { body, combine }: ReduceKernel,
  combiner: Combiner,
  state: readonly Vec[],
  copy: number,
): void {
  const { lanes } = nest;
  nest.isolate(() => {
    const factors = combine === "sum" ? factorsOf(body) : null;
    if (factors) {
      const [a, b] = factors.map((e) => nest.value(e, copy));
      lanes.assign(state[0]!, lanes.madd(a!, b!, state[0]!));
    } else {
      const next = combiner.add(state, nest.value(body, copy));
      state.forEach((x, i) => lanes.assign(x, next[i]!));
    }
  });
}

/** The factors of a product of floats. */
function factorsOf(expr: Expr): readonly Expr[] | null {
  return expr.kind === "call" && expr.op === "mul" && expr.dtype === "f32"
    ? expr.args
    : null;
}

function variables(lanes: Lanes, values: readonly Vec[]): Vec[] {
  return values.map((value) => {
    const x = lanes.variable();
    lanes.assign(x, value);
    return x;
  });
}

function combinerOf(v: Lanes, { combine, body }: ReduceKernel): Combiner {
  const { dtype } = body;
  if (combine === "max" && dtype === "f32") {
    return {
      start: [v.float(-Infinity), v.float(0)],
      // pmax skips a NaN; the second vector remembers it.
      add: ([max, nan], x) => [
        v.f32(f32x4.pmax, max!, x),
        v.f32(v128.or, nan!, v.f32(f32x4.ne, x, x)),
      ],
      value: ([max, nan]) => v.f32(v128.or, max!, nan!),
    };
  }
  const opcode = combine === "sum"
    ? (dtype === "f32" ? f32x4.add : i32x4.add)
    : (dtype === "i32" ? i32x4.maxS : i32x4.maxU);
  const least = combine === "max" && dtype === "i32" ? -(2 ** 31) : 0;
  return {
    start: [v.integer(least)],
    add: ([sum], x) => [v.i32(opcode, sum!, x)],
    value: ([sum]) => sum!,
  };
}

/**
 * A long reduction as kernels: over runs of its longest axis, over what is left of that axis, and over their results,
 * which lie in scratch memory from `start` on. Null where these would take too much.
 */
function inRuns(
  kernel: ReduceKernel,
  isAlong: boolean,
  scratch: Local,
  start: number,
): { parts: ReduceKernel[]; bytes: number } | null {
  const { shape, over, combine, body } = kernel;
  const rank = shape.length;
  const most = isAlong ? RUN.along : RUN.across;
  const longest = over.indexOf(Math.max(...over)), extent = over[longest]!;
  const run = Math.max(1, Math.floor(most * extent / sizeOf(over)));
  const runs = Math.floor(extent / run), rest = extent % run;
  const count = runs + (rest > 0 ? 1 : 0);
  const bytes = 4 * count * sizeOf(shape);
  if (bytes > MOST_SCRATCH) return null;
  // Results of runs lie so that the reduction over them has its lanes as this one.
  const at = isAlong ? rank : 0;
  const offset = start / 4;
  const results = stridesOf(inserted(shape, at, count));
  const acc: Expr = { kind: "acc", dtype: body.dtype };

  const part = (from: number, length: number, times: number): ReduceKernel => {
    const split = ({ offset, strides }: View): View => {
      const step = strides[rank + longest]!;
      return {
        offset: offset + from * run * step,
        strides: inserted(strides, at, run * step),
      };
    };
    const view = { offset: offset + from * results[at]!, strides: results };
    return {
      kind: "reduce",
      shape: inserted(shape, at, times),
      over: over.map((d, i) => i === longest ? length : d),
      combine,
      body: mapViews(body, split)!,
      outputs: [{ buffer: scratch, view, expr: acc }],
    };
  };
  const strides = [...results.filter((_, i) => i !== at), results[at]!];
  const parts = [part(0, run, runs), {
    ...kernel,
    over: [count],
    body: {
      kind: "load" as const,
      buffer: scratch,
      view: { offset, strides },
      dtype: body.dtype,
    },
  }];
  if (rest > 0) parts.splice(1, 0, part(runs, rest, 1));
  return { parts, bytes };
}

function inserted(list: Shape, at: number, value: number): number[] {
  return [...list.slice(0, at), value, ...list.slice(at)];
}
