/**
 * Softmax down the columns of scores, one for each example, that come block by block (arXiv 1805.02867, algorithm 3).
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Bound, Local, Pointer } from "./assembler.ts";
import type { Lanes, Vec } from "./lanes.ts";
import { f32x4, i32, v128 } from "./opcodes.ts";
import { PANEL } from "./packing.ts";
import { exps } from "./vector_math.ts";

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
    eachRow(
      lanes,
      scores,
      first!,
      (at) =>
        tops.forEach((x, i) =>
          lanes.assign(x, lanes.f32(f32x4.pmax, x, load(lanes, at, i)))
        ),
    );
    tops.forEach((x) => lanes.assign(x, lanes.f32(f32x4.pmin, x, MOST)));
    const sums = VECTORS.map(() => variable(lanes, 0));
    eachRow(lanes, scores, first!, (at) => {
      const more = tops.map((top, i) =>
        lanes.f32(f32x4.sub, load(lanes, at, i), top)
      );
      exps(lanes, more).forEach((e, i) => {
        store(lanes, at, i, e);
        lanes.assign(sums[i]!, lanes.f32(f32x4.add, sums[i]!, e));
      });
    });
    for (const i of VECTORS) {
      const [by] = exps(lanes, [lanes.f32(f32x4.sub, old[i]!, tops[i]!)]) as [
        Vec,
      ];
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

/** What the columns of weights are made from, at addresses in locals. */
export interface Weighing {
  /** How many there are, whole panels. */
  readonly count: Local;
  /** The logarithms of their sums of exponentials. */
  readonly logSum: Pointer;
  /** Their cotangents. */
  readonly ct: Pointer;
}

/** Replaces scores by `ct · exp(score - logSum)`. */
export function weigh(
  lanes: Lanes,
  { count, logSum, ct }: Weighing,
  scores: Rows,
): void {
  eachPanel(lanes, count, [scores.at, logSum, ct], ([first, logSum, ct]) => {
    const known = VECTORS.map((i) => {
      return { logSum: load(lanes, logSum!, i), ct: load(lanes, ct!, i) };
    });
    eachRow(
      lanes,
      scores,
      first!,
      (at) => {
        const logs = known.map(({ logSum }, i) =>
          lanes.f32(f32x4.sub, load(lanes, at, i), logSum)
        );
        exps(lanes, logs).forEach((e, i) =>
          store(lanes, at, i, lanes.f32(f32x4.mul, e, known[i]!.ct))
        );
      },
    );
  });
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
  { stride, count }: Rows,
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
