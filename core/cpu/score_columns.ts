/**
 * Softmax down the columns of scores, one for each example, that come block by block (arXiv 1805.02867, algorithm 3).
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Bound, Local, Pointer } from "./assembler.ts";
import type { Lanes, Vec } from "./lanes.ts";
import { f32x4, i32, i32x4, v128 } from "./opcodes.ts";
import { PANEL } from "./packing.ts";
import { exp, exps, log } from "./vector_math.ts";

/** The largest float: within ± this, a difference from the largest score is never NaN. */
const MOST = (2 - 2 ** -23) * 2 ** 127;

/** The bits of 1. */
const ONE = 0x3f800000;

/** The vectors of a panel. */
const VECTORS = [...Array(PANEL / 4).keys()];

/** Rows of whole panels. */
export interface Rows {
  /** The address of the first. */
  readonly at: Pointer;
  /** Bytes from one to the next. */
  readonly stride: number;
  /** How many there are, at least one. */
  readonly count: Bound;
}

/** What is kept of each column, at addresses in locals. */
export interface Columns {
  /** How many there are, whole panels. */
  readonly count: Local;
  /** Their largest scores. */
  readonly top: Pointer;
  /** The sums of exponentials of what their scores are more. */
  readonly sum: Pointer;
  /** By what sums were multiplied for the last block, as a larger score came. */
  readonly factor: Pointer;
}

/** Adds to the so many columns of each row the float for it, one after another from an address. */
export function addToRows(
  lanes: Lanes,
  count: Local,
  from: Pointer,
  rows: Rows,
): void {
  const { code } = lanes;
  code.scope(() => {
    const next = code.pointer();
    code.get(from).set(next);
    eachRow(lanes, rows, rows.at, (row) => {
      code.get(next).memory(v128.load32Splat);
      const more = lanes.pop();
      eachPanel(lanes, count, [row], ([at]) =>
        VECTORS.forEach((i) => {
          const sum = lanes.f32(f32x4.add, load(lanes, at!, i), more);
          store(lanes, at!, i, sum);
        }));
      code.increment(next, 4);
    });
  });
}

/** Stores the sum of the first columns of each row, or adds it to what is there unless `isFirst`. */
export function sumColumns(
  lanes: Lanes,
  { count, columns }: { readonly count: Bound; readonly columns: Local },
  rows: Rows,
  to: Pointer,
  isFirst: Local,
): void {
  const { code } = lanes;
  code.scope(() => {
    const next = code.pointer(), left = code.local();
    code.get(to).set(next);
    const sum = variable(lanes, 0);
    eachRow(lanes, rows, rows.at, (row) => {
      code.push(count).set(left);
      lanes.assign(sum, 0);
      eachPanel(lanes, columns, [row], ([at]) => {
        const limit = lanes.splat(left);
        for (const i of VECTORS) {
          const column = lanes.integer(...[0, 1, 2, 3].map((j) => 4 * i + j));
          // What is beyond the last column may be NaN.
          const isThere = lanes.i32(i32x4.gtS, limit, column);
          const x = lanes.i32(v128.and, load(lanes, at!, i), isThere);
          lanes.assign(sum, lanes.f32(f32x4.add, sum, x));
        }
        code.increment(left, -PANEL);
      });
      const total = lanes.fold(sum, (a, b) => lanes.f32(f32x4.add, a, b));
      code.get(isFirst).op(i32.eqz).if(() => {
        code.get(next).memory(v128.load32Zero);
        const old = lanes.pop();
        lanes.assign(total, lanes.f32(f32x4.add, old, total));
      });
      code.get(next, total.local).memory(v128.store32Lane, 0, 0);
      code.increment(next, 4);
    });
  });
}

/** Sets what is kept before the first block. */
export function startColumns(lanes: Lanes, { count, top, sum }: Columns): void {
  eachPanel(lanes, count, [top, sum], ([top, sum]) =>
    VECTORS.forEach((i) => {
      store(lanes, top!, i, lanes.float(-MOST));
      store(lanes, sum!, i, lanes.float(0));
    }));
}

/** Replaces scores by exponentials of what they are more than the largest of their columns so far. */
export function exponentiate(
  lanes: Lanes,
  { count, top, sum, factor }: Columns,
  scores: Rows,
): void {
  const starts = [scores.at, top, sum, factor];
  eachPanel(lanes, count, starts, ([first, top, sum, factor]) => {
    const old = VECTORS.map((i) => load(lanes, top!, i));
    const tops = old.map((x) => variable(lanes, x));
    // A NaN is never larger; its exponential makes the sum NaN.
    foldRows(lanes, f32x4.pmax, tops, scores, first!);
    tops.forEach((x) => lanes.assign(x, lanes.f32(f32x4.pmin, x, MOST)));
    const sums = VECTORS.map(() => variable(lanes, 0));
    eachRow(lanes, scores, first!, (at) => {
      exps(lanes, without(lanes, tops, at)).forEach((e, i) => {
        store(lanes, at, i, e);
        lanes.assign(sums[i]!, lanes.f32(f32x4.add, sums[i]!, e));
      });
    });
    for (const i of VECTORS) {
      const by = exp(lanes, lanes.f32(f32x4.sub, old[i]!, tops[i]!));
      store(lanes, factor!, i, by);
      store(lanes, top!, i, tops[i]!);
      store(lanes, sum!, i, lanes.madd(load(lanes, sum!, i), by, sums[i]!));
    }
  });
}

/** Multiplies rows, one for each column, by the factors of these. */
export function rescale(
  lanes: Lanes,
  { factor }: Columns,
  rows: Rows,
  width: number,
): void {
  const { code } = lanes;
  const by = code.pointer();
  code.get(factor).set(by);
  eachRow(lanes, rows, rows.at, (row) => {
    code.get(by).memory(i32.load).const(ONE).op(i32.ne).if(() => {
      code.get(by).memory(v128.load32Splat);
      const times = lanes.pop(), count = code.local();
      code.const(width).set(count);
      eachPanel(lanes, count, [row], ([at]) =>
        VECTORS.forEach((i) => {
          const x = load(lanes, at!, i);
          store(lanes, at!, i, lanes.f32(f32x4.mul, x, times));
        }));
    });
    code.increment(by, 4);
  });
}

/** What is found of blocks of rows, for so many columns: a row for each block, one after another. */
export interface Found {
  /** How many columns there are, whole panels. */
  readonly count: Local;
  /** Number of blocks. */
  readonly blocks: number;
  /** Bytes from the row of a block to the next. */
  readonly stride: number;
  /** Their largest scores; overwritten by what their exponentials are multiplied by. */
  readonly tops: Pointer;
  /** The sums of their exponentials. */
  readonly sums: Pointer;
  /** What becomes the logarithms of the sums over all blocks. */
  readonly logSum: Pointer;
  /** What the sum of a column's exponentials, multiplied so, shall be. */
  readonly weight: Pointer;
}

/** Combines what is found of blocks, in order. */
export function combineBlocks(
  lanes: Lanes,
  { count, blocks, stride, tops, sums, logSum, weight }: Found,
): void {
  const starts = [tops, sums, logSum, weight];
  eachPanel(lanes, count, starts, ([first, sums, logSum, weight]) => {
    const rows = { stride, count: blocks };
    const top = VECTORS.map(() => variable(lanes, -MOST));
    foldRows(lanes, f32x4.max, top, rows, first!);
    const total = VECTORS.map(() => variable(lanes, 0));
    const from = lanes.code.pointer();
    lanes.code.get(sums!).set(from);
    eachRow(lanes, rows, first!, (at) => {
      exps(lanes, without(lanes, top, at)).forEach((share, i) => {
        store(lanes, at, i, share);
        const x = total[i]!;
        lanes.assign(x, lanes.madd(share, load(lanes, from, i), x));
      });
      lanes.code.increment(from, stride);
    });
    const by = VECTORS.map((i) => {
      const sum = lanes.f32(f32x4.add, top[i]!, log(lanes, total[i]!));
      store(lanes, logSum!, i, sum);
      return lanes.f32(f32x4.div, load(lanes, weight!, i), total[i]!);
    });
    scaleRows(lanes, by, rows, first!);
  });
}

/** Multiplies the columns of rows by what is at an address. */
export function scaleColumns(
  lanes: Lanes,
  count: Local,
  by: Pointer,
  rows: Rows,
): void {
  eachPanel(lanes, count, [rows.at, by], ([first, by]) => {
    const times = VECTORS.map((i) => load(lanes, by!, i));
    scaleRows(lanes, times, rows, first!);
  });
}

/** Stores the sum of rows of so many columns, whole panels. */
export function sumRows(
  lanes: Lanes,
  width: number,
  rows: Rows,
  to: Pointer,
): void {
  const count = lanes.code.local();
  lanes.code.const(width).set(count);
  eachPanel(lanes, count, [rows.at, to], ([first, to]) => {
    const sums = VECTORS.map(() => variable(lanes, 0));
    foldRows(lanes, f32x4.add, sums, rows, first!);
    sums.forEach((x, i) => store(lanes, to!, i, x));
  });
}

/** What the columns of weights are made from, at addresses in locals. */
export interface Weighing {
  /** How many there are, whole panels. */
  readonly count: Local;
  /** The logarithms of their sums of exponentials. */
  readonly logSum: Pointer;
  /** What their sums shall be. */
  readonly weight: Pointer;
}

/** Replaces scores by `weight · exp(score - logSum)`. */
export function weigh(
  lanes: Lanes,
  { count, logSum, weight }: Weighing,
  scores: Rows,
): void {
  const starts = [scores.at, logSum, weight];
  eachPanel(lanes, count, starts, ([first, logSum, weight]) => {
    const logs = VECTORS.map((i) => load(lanes, logSum!, i));
    const by = VECTORS.map((i) => load(lanes, weight!, i));
    eachRow(
      lanes,
      scores,
      first!,
      (at) =>
        exps(lanes, without(lanes, logs, at)).forEach((e, i) =>
          store(lanes, at, i, lanes.f32(f32x4.mul, e, by[i]!))
        ),
    );
  });
}

/** Combines the vectors of a panel with those of each row by an instruction. */
function foldRows(
  lanes: Lanes,
  opcode: number,
  into: readonly Vec[],
  rows: Omit<Rows, "at">,
  from: Pointer,
): void {
  eachRow(
    lanes,
    rows,
    from,
    (at) =>
      into.forEach((x, i) =>
        lanes.assign(x, lanes.f32(opcode, x, load(lanes, at, i)))
      ),
  );
}

/** Multiplies the vectors of a panel in each row. */
function scaleRows(
  lanes: Lanes,
  by: readonly Vec[],
  rows: Omit<Rows, "at">,
  from: Pointer,
): void {
  eachRow(
    lanes,
    rows,
    from,
    (at) =>
      by.forEach((x, i) =>
        store(lanes, at, i, lanes.f32(f32x4.mul, load(lanes, at, i), x))
      ),
  );
}

/** What is left of the vectors at an address without others. */
function without(lanes: Lanes, others: readonly Vec[], at: Pointer): Vec[] {
  return others.map((x, i) => lanes.f32(f32x4.sub, load(lanes, at, i), x));
}

/** Visits so many columns by panels, each with where it is from some starts. */
function eachPanel(
  { code }: Lanes,
  count: Local,
  starts: readonly Pointer[],
  visit: (at: readonly Pointer[]) => void,
): void {
  code.scope(() => {
    const pointers = starts.map((start) => {
      const at = code.pointer();
      code.get(start).set(at);
      return at;
    });
    const left = code.local();
    code.get(count).set(left);
    code.doWhile(() => {
      code.scope(() => visit(pointers));
      pointers.forEach((at) => code.increment(at, 4 * PANEL));
      code.increment(left, -PANEL);
    }, () => code.get(left));
  });
}

/** Visits the rows from an address on. */
function eachRow(
  { code }: Lanes,
  { stride, count }: Omit<Rows, "at">,
  from: Pointer,
  visit: (at: Pointer) => void,
): void {
  code.scope(() => {
    const at = code.pointer(), left = code.local();
    code.get(from).set(at).push(count).set(left);
    code.doWhile(() => {
      code.scope(() => visit(at));
      code.increment(at, stride).increment(left, -1);
    }, () => code.get(left));
  });
}

function load(lanes: Lanes, at: Pointer, vector: number): Vec {
  lanes.code.get(at).memory(v128.load, 16 * vector);
  return lanes.pop();
}

function store({ code }: Lanes, at: Pointer, vector: number, x: Vec): void {
  code.get(at, x.local).memory(v128.store, 16 * vector);
}

function variable(lanes: Lanes, value: Vec | number): Vec {
  const x = lanes.variable();
  lanes.assign(x, value);
  return x;
}
