/**
 * Reductions as WebAssembly.
 *
 * Lanes lie along the innermost reduced axis, with four accumulators to hide the latency of an addition, or along the
 * innermost outer axis, with an accumulator for each vector of results. Long sums of floats are taken in short runs
 * whose results add up in double precision.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { DType } from "../dtype.ts";
import type { Expr, ReduceKernel } from "../plan/kernel.ts";
import { sizeOf } from "../shape.ts";
import { type ArrangedReduce, arrangeReduce } from "./arrange.ts";
import type { Lanes, Vec } from "./lanes.ts";
import { emitMap, storeAll } from "./map.ts";
import { type Bound, Nest, type Phase, phasesOf } from "./nest.ts";
import { f32x4, f64x2, i32, i32x4, select, v128 } from "./opcodes.ts";

/** Steps of a run before it is added up in double precision. */
const RUN = 32;

/** A way to combine, with as many vectors of state as it needs. */
interface Combiner {
  /** State before the first element. */
  readonly start: readonly Vec[];
  /** State after one more element. */
  add(state: readonly Vec[], x: Vec): Vec[];
  /** Two states as one. */
  merge(a: readonly Vec[], b: readonly Vec[]): Vec[];
  /** The value of a state. */
  value(state: readonly Vec[]): Vec;
}

/** Emits a reduction; its buffers are the first parameters of the function. */
export function emitReduce(lanes: Lanes, kernel: ReduceKernel): void {
  if (sizeOf(kernel.shape) === 0) return;
  const arranged = arrangeReduce(kernel);
  if (arranged.kind === "map") return emitMap(lanes, arranged);
  new Reduction(lanes, arranged as ArrangedReduce).emit();
}

/** An accumulator: the state of the current run, and the sum of the runs before it. */
interface Accumulator {
  readonly state: readonly Vec[];
  readonly wide: readonly [Vec, Vec] | null;
}

class Reduction {
  #lanes: Lanes;
  #kernel: ArrangedReduce;
  #combiner: Combiner;
  #nest: Nest;
  #isWide: boolean;

  constructor(lanes: Lanes, kernel: ArrangedReduce) {
    const { shape, over, body, outputs, lane, combine } = kernel;
    const rank = shape.length;
    this.#lanes = lanes;
    this.#kernel = kernel;
    this.#combiner = combiner(lanes, combine, body.dtype);
    this.#nest = new Nest(lanes, lane, [
      { exprs: [body], within: rank + over.length - 1 },
      { exprs: outputs.map((o) => o.expr), within: rank - 1 },
    ], outputs);
    const steps = sizeOf(over) / (lane < rank ? 1 : 16);
    this.#isWide = combine === "sum" && body.dtype === "f32" && steps > RUN;
  }

  emit(): void {
    this.#nest.enter(() => this.#open(0));
  }

  /** Opens the outer loops from `axis` on. */
  #open(axis: number): void {
    const { shape, lane } = this.#kernel;
    if (axis === shape.length) return this.#alongReduced();
    const extent = shape[axis]!;
    if (axis !== lane) {
      return this.#nest.loop(axis, 0, extent, () => this.#open(axis + 1));
    }
    const copies = this.#kernel.combine === "sum" ? 8 : 4;
    const rest = phasesOf(2);
    const body = (phase: Phase) => this.#acrossReduced(phase.copies);
    this.#nest.loop(axis, 0, extent, body, [{ width: 4, copies }, ...rest]);
  }

  /** Lanes along the outer axis: a result in each. */
  #acrossReduced(copies: number): void {
    const accumulators = Array.from({ length: copies }, () => this.#start());
    this.#reduceOver(
      (axis, from, to) =>
        this.#nest.loop(axis, from, to, () => {
          accumulators.forEach((acc, copy) => this.#step(acc, copy));
        }),
      () => accumulators.forEach((acc) => this.#endRun(acc)),
    );
    this.#finish(accumulators.map((acc) => this.#total(acc)));
  }

  /** Lanes along the reduced axis: folded into one result, with that of the elements which do not fill a vector. */
  #alongReduced(): void {
    const vectors = Array.from({ length: 4 }, () => this.#start(false));
    const total = { ...vectors[0]!, wide: this.#startWide() };
    const tail = this.#start();
    const phases = phasesOf(4);
    const { merge } = this.#combiner;
    const mergeVectors = () => {
      const [a, b, c, d] = vectors.map((acc) => acc.state);
      this.#assign(total.state, merge(merge(a!, b!), merge(c!, d!)));
    };
    this.#reduceOver(
      (axis, from, to) =>
        this.#nest.loop(axis, from, to, ({ width, copies }) => {
          for (let copy = 0; copy < copies; copy++) {
            this.#step(width === 4 ? vectors[copy]! : tail, copy);
          }
        }, phases),
      () => {
        mergeVectors();
        this.#endRun(total);
        this.#endRun(tail);
        for (const { state } of vectors) {
          this.#assign(state, this.#combiner.start);
        }
      },
    );
    if (!this.#isWide) mergeVectors();
    const all = this.#lanes.fold(
      this.#total(total),
      (a, b) => this.#combineValues(a, b),
    );
    this.#finish([this.#combineValues(all, this.#total(tail))]);
  }

  /** Opens the reduced loops: `loop` is the innermost one, of which each run is followed by `endRun`. */
  #reduceOver(
    loop: (axis: number, from: Bound, to: Bound) => void,
    endRun: () => void,
  ): void {
    const { shape, over, lane } = this.#kernel;
    const { code } = this.#lanes;
    const rank = shape.length;
    const open = (i: number): void => {
      const extent = over[i]!;
      if (i < over.length - 1) {
        return this.#nest.loop(rank + i, 0, extent, () => open(i + 1));
      }
      if (!this.#isWide) return loop(rank + i, 0, extent);
      const run = lane < rank ? RUN : 16 * RUN;
      if (extent <= run) {
        loop(rank + i, 0, extent);
        return endRun();
      }
      const [from, to] = [code.local(), code.local()];
      code.const(0).set(from);
      code.doWhile(() => {
        code.get(from).const(run).op(i32.add).tee(to).const(extent);
        code.get(to).const(extent).op(i32.ltS).op(select).set(to);
        loop(rank + i, { local: from }, { local: to });
        endRun();
      }, () => code.get(to).tee(from).const(extent).op(i32.ltS));
    };
    open(0);
  }

  #start(wide = true): Accumulator {
    const state = this.#combiner.start.map(() => this.#lanes.variable());
    this.#assign(state, this.#combiner.start);
    return { state, wide: wide ? this.#startWide() : null };
  }

  #startWide(): [Vec, Vec] | null {
    if (!this.#isWide) return null;
    const wide: [Vec, Vec] = [this.#lanes.variable(), this.#lanes.variable()];
    this.#assign(wide, [this.#lanes.float(0), this.#lanes.float(0)]);
    return wide;
  }

  /** Combines the body at the current point into an accumulator. */
  #step({ state }: Accumulator, copy: number): void {
    const { body, combine } = this.#kernel;
    this.#nest.isolate(() => {
      const product = combine === "sum" ? floatProduct(body) : null;
      if (product) {
        const [a, b] = product.map((e) => this.#nest.value(e, copy));
        this.#assign(state, [this.#lanes.madd(a!, b!, state[0]!)]);
      } else {
        const x = this.#nest.value(body, copy);
        this.#assign(state, this.#combiner.add(state, x));
      }
    });
  }

  #endRun({ state, wide }: Accumulator): void {
    if (!wide) return;
    const v = this.#lanes;
    v.code.scope(() => {
      const upper = v.shuffle(state[0]!, state[0]!, [2, 3, 2, 3]);
      const sums = [state[0]!, upper].map((pair, i) =>
        v.f64(f64x2.add, wide[i]!, v.f64(f64x2.promoteLow, pair))
      );
      this.#assign(wide, sums);
      this.#assign(state, this.#combiner.start);
    });
  }

  #total({ state, wide }: Accumulator): Vec {
    if (!wide) return this.#combiner.value(state);
    const [a, b] = wide.map((d) => this.#lanes.f64(f32x4.demote, d));
    return this.#lanes.shuffle(a!, b!, [0, 1, 4, 5]);
  }

  /** Combines two values, NaN included. */
  #combineValues(a: Vec, b: Vec): Vec {
    const { add, start, value } = this.#combiner;
    return value(add(add(start, a), b));
  }

  #finish(totals: readonly Vec[]): void {
    this.#nest.accumulators = totals;
    storeAll(this.#nest, this.#kernel.outputs, totals.length);
  }

  #assign(targets: readonly Vec[], values: readonly Vec[]): void {
    targets.forEach((target, i) => this.#lanes.assign(target, values[i]!));
  }
}

/** The factors of a product of floats. */
function floatProduct(expr: Expr): readonly Expr[] | null {
  return expr.kind === "call" && expr.op === "mul" && expr.dtype === "f32"
    ? expr.args
    : null;
}

function combiner(v: Lanes, combine: "sum" | "max", dtype: DType): Combiner {
  if (combine === "max" && dtype === "f32") {
    return {
      start: [v.float(-Infinity), v.float(0)],
      // pmax skips a NaN; the second vector remembers it.
      add: ([max, nan], x) => [
        v.f32(f32x4.pmax, max!, x),
        v.f32(v128.or, nan!, v.f32(f32x4.ne, x, x)),
      ],
      merge: (a, b) => [
        v.f32(f32x4.pmax, a[0]!, b[0]!),
        v.f32(v128.or, a[1]!, b[1]!),
      ],
      value: ([max, nan]) => v.f32(v128.or, max!, nan!),
    };
  }
  const opcode = combine === "sum"
    ? (dtype === "f32" ? f32x4.add : i32x4.add)
    : (dtype === "i32" ? i32x4.maxS : i32x4.maxU);
  const least = combine === "max" && dtype === "i32" ? -(2 ** 31) : 0;
  const both = (a: readonly Vec[], b: Vec) => [v.i32(opcode, a[0]!, b)];
  return {
    start: [v.integer(least)],
    add: both,
    merge: (a, b) => both(a, b[0]!),
    value: ([x]) => x!,
  };
}
