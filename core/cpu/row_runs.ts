/**
 * Products of a few rows with a table whose columns lie side by side, divided among threads by the rows of the table.
 *
 * Parts of short rows are fetched badly: what a processor fetches ahead of one thread is for another. Here each thread
 * reads whole rows. It leaves the sums of each run of rows in scratch memory, and then these are summed in the order in
 * which one thread would do it.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Expr } from "../plan/kernel.ts";
import { sizeOf } from "../shape.ts";
import type { Pointer } from "./assembler.ts";
import type { Lanes } from "./lanes.ts";
import { Nest } from "./nest.ts";
import { i32 } from "./opcodes.ts";
import { emitReduce } from "./reduce.ts";
import { emitSums, RUN } from "./row_sums.ts";
import {
  addressesOf,
  bytesOf,
  operandPlaces,
  type RowKernel,
} from "./row_table.ts";
import { type Division, type Part, shareOf, splitAxis } from "./split.ts";
import type { StageBuilder } from "./stages.ts";

/** Bytes of a thread's part of a row from which on it is fetched well. */
const LONG = 8192;

/** Most runs: as many as are summed one after another. */
const MOST_RUNS = 32;

/** Columns of a block: their sums stay in the first cache. */
const BLOCK = 4096;

/** Least share of the time that all threads must be busy. */
const BUSY = 0.9;

/** Whether threads had better divide a product by runs than by its columns. */
export function isByRuns(
  { shape, k, b }: RowKernel,
  { threads }: Division,
): boolean {
  const n = shape.at(-1)!, runs = runsOf(k);
  const isAlone = sizeOf(shape.slice(0, -2)) === 1;
  return isAlone && !b.blocks && b.view.strides.at(-1) === 1 &&
    runs <= MOST_RUNS &&
    n * bytesOf(b) < LONG * threads &&
    shareOf(splitAxis(0, runs, 1), threads) >= BUSY;
}

/** Emits such a product, whose left operand is readable, as two stages. */
export function emitByRuns(
  stages: StageBuilder,
  kernel: RowKernel,
  work: number,
): void {
  const { shape, k, outputs } = kernel;
  const [m, n] = shape.slice(-2) as [number, number];
  const runs = runsOf(k), row = padded(n);
  const at = stages.takeCommon(4 * runs * m * row);
  stages.add(
    work,
    splitAxis(0, runs, 1),
    (lanes, part) => emitPartials(lanes, kernel, part!, stages.common, at),
  );
  const strides = [...shape.slice(0, -2).fill(0), row, 1, m * row];
  const body: Expr = {
    kind: "load",
    buffer: stages.common,
    view: { offset: at / 4, strides },
    dtype: "f32",
  };
  const reductions = [{ combine: "sum", body }] as const;
  const passes = [{ reductions, outputs: [] }];
  emitReduce(stages, { kind: "reduce", shape, over: [runs], passes, outputs });
}

function runsOf(k: number): number {
  return Math.ceil(k / RUN);
}

/** Elements from the sums of a row to the next: whole vectors, as these are cleared. */
function padded(n: number): number {
  return 4 * Math.ceil(n / 4);
}

/** Leaves the sums of a part of the runs in scratch memory. */
function emitPartials(
  lanes: Lanes,
  { shape, k, a, b }: RowKernel,
  { from, to }: Part,
  common: Pointer,
  start: number,
): void {
  const { code } = lanes;
  const rank = shape.length - 2;
  const [m, n] = shape.slice(rank) as [number, number];
  const bytes = bytesOf(b);
  const tableRow = bytes * b.view.strides[rank]!, sumsRow = 4 * padded(n);
  const corners = operandPlaces({ shape, a, b });
  const region = { exprs: [], places: corners, within: rank + 1 };
  const nest = new Nest(lanes, rank + 1, [region], null);
  const [sums, table, out] = code.pointers(3);
  const left = code.local();

  nest.enter(() => {
    const [x, row] = addressesOf(nest, b, corners);
    const steps: [Pointer, number][] = [
      [x, 4 * RUN],
      [row, tableRow * RUN],
      [sums, sumsRow * m],
    ];
    code.get(common).const(start).plus().set(sums);
    for (const [pointer, step] of steps) {
      code.get(pointer).push(from).const(step).op(i32.mul).plus().set(pointer);
    }
    const addRows = (count: number) =>
      code.blocks({ from: 0, to: n }, Math.floor(BLOCK / m), (j) => {
        code.get(row).push(j.from).const(bytes).op(i32.mul).plus().set(table);
        code.get(sums).push(j.from).const(4).op(i32.mul).plus().set(out);
        emitSums(lanes, {
          rows: m,
          k: count,
          x,
          xRow: 4 * a.view.strides[rank]!,
          table,
          tableRow,
          dtype: b.dtype,
          size: j.size,
          sums: out,
          sumsRow,
          scratch: out,
        });
      });
    // Counts down to 0 at the last run of all, which may be shorter than the others.
    code.const(runsOf(k)).push(from).op(i32.sub).set(left);
    const more = () =>
      code.const(runsOf(k)).push(to).op(i32.sub).get(left).op(i32.ltS);
    code.while(more, () => {
      const rest = k % RUN;
      if (rest === 0) addRows(RUN);
      else {
        code.get(left).const(1).op(i32.eq);
        code.if(() => addRows(rest), () => addRows(RUN));
      }
      for (const [pointer, step] of steps) code.increment(pointer, step);
      code.increment(left, -1);
    });
  });
}
