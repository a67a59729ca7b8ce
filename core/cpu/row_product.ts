/**
 * Products of a few rows with a matrix, the table, as WebAssembly: a token is decoded so. The time goes into reading the
 * table, once, in long runs.
 *
 * The sums of a block of columns gather in a thread's scratch memory; then the outputs are computed from them.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { entry } from "../plan/expression.ts";
import type { Expr, Matrix } from "../plan/kernel.ts";
import { sizeOf, stridesOf } from "../shape.ts";
import { withAccs } from "./arrange.ts";
import type { Block, Bound, Pointer } from "./assembler.ts";
import type { Lanes } from "./lanes.ts";
import { copiesFor, emitMap, storeAll } from "./map.ts";
import { Nest } from "./nest.ts";
import { i32 } from "./opcodes.ts";
import { placesOf } from "./places.ts";
import { phasesOf } from "./pointers.ts";
import { DOTS_SCRATCH, emitDots } from "./row_dots.ts";
import { emitByRuns, isByRuns } from "./row_runs.ts";
import { emitSums } from "./row_sums.ts";
import {
  addressesOf,
  addressIn,
  type Blocks,
  bytesOf,
  type Held,
  isReadable,
  operandPlaces,
  type RowKernel,
} from "./row_table.ts";
import { type Part, splitLoops } from "./split.ts";
import type { StageBuilder } from "./stages.ts";
import { MADD, workOf } from "./work.ts";

/** Sums of a block: in the first cache with as many beside them. */
const BLOCK = 2048;

/** Nanoseconds to read a byte of the table: some 12 GB/s. */
const READ = 0.08;

/** A block of columns to compute. Strides count bytes. */
export interface RowBlock {
  /** How many rows. */
  readonly rows: number;
  /** The inner size. */
  readonly k: number;
  /** Address of the rows, which are contiguous floats. */
  readonly x: Pointer;
  /** Bytes from one to the next. */
  readonly xRow: number;
  /** Address of the table at the first column. */
  readonly table: Pointer;
  /** Bytes from a row of the table to the next: as it lies in memory, a row may be one of its columns. */
  readonly tableRow: number;
  /** What the table holds. */
  readonly dtype: Held;
  /** How its bytes are read where they are two groups of four bits each. */
  readonly blocks?: ScaledBlocks;
  /** How many columns. */
  readonly size: Bound;
  /** Address of the sums. */
  readonly sums: Pointer;
  /** Bytes from the sums of a row to those of the next. */
  readonly sumsRow: number;
  /** Address of more memory. */
  readonly scratch: Pointer;
}

/** Groups of four bits, and where their scales are: the address of those of the first column, and bytes to the next. */
export interface ScaledBlocks extends Pick<Blocks, "levels" | "times"> {
  readonly scales: Pointer;
  readonly scalesRow: number;
}

/** Emits a product of few rows as stages. */
export function emitRowProduct(
  stages: StageBuilder,
  kernel: RowKernel,
): void {
  const { shape, k, b, outputs } = kernel;
  if (sizeOf(shape) === 0) return;
  const batch = shape.slice(0, -2), n = shape.at(-1)!, m = shape.at(-2)!;
  const a = isReadable(kernel.a) ? kernel.a : copied(stages, kernel);
  const perElement = Math.max(READ * bytesOf(b), m * MADD);
  const work = sizeOf(batch) * k * n * perElement +
    workOf(sizeOf(shape), outputs.map(({ expr }) => expr));
  const { division } = stages;
  if (division && work >= division.leastWork && isByRuns(kernel, division)) {
    return emitByRuns(stages, { ...kernel, a }, work);
  }
  const split = stages.divide(work, (division) =>
    splitLoops(
      [...batch, 1, n],
      shape.length - 1,
      outputs.map(({ view }) => view),
      division,
    ));
  const columns = blockOf(m);
  const own = stages.takeOwn(2 * 4 * m * columns + DOTS_SCRATCH);
  stages.add(
    work,
    split,
    (lanes, part) =>
      emitBlocks(lanes, { ...kernel, a }, part, stages.own, own, columns),
  );
}

/** Columns of a block of so many rows. */
function blockOf(rows: number): number {
  return Math.floor(BLOCK / rows / 16) * 16;
}

/** The left operand in scratch memory, as contiguous floats. */
function copied(
  stages: StageBuilder,
  { shape, k, a }: RowKernel,
): Matrix {
  const all = [...shape.slice(0, -1), k];
  const offset = stages.takeCommon(4 * sizeOf(all)) / 4;
  const place = {
    buffer: stages.common,
    view: { offset, strides: stridesOf(all) },
  };
  const outputs = [{ ...place, expr: entry(a, (view) => view) }];
  emitMap(stages, { kind: "map", shape: all, outputs });
  return { ...place, dtype: "f32" };
}

function emitBlocks(
  lanes: Lanes,
  { shape, k, a, b, outputs }: RowKernel,
  part: Part | null,
  own: Pointer,
  start: number,
  most: number,
): void {
  const { code } = lanes;
  const rank = shape.length - 2;
  const [m, n] = shape.slice(rank) as [number, number];
  const [inner, across] = b.view.strides.slice(rank) as [number, number];
  const bytes = bytesOf(b);
  const [sums, scratch, origin, x, table] = code.pointers(5);
  const range = part?.axis === rank + 1 ? part : { from: 0, to: n };
  code.get(own).const(start).plus().set(sums);
  code.get(sums).const(4 * m * most).plus().set(scratch);

  code.blocks(range, most, (j) => {
    // Where the sums of column 0 would be.
    code.get(sums).push(j.from).const(-4).op(i32.mul).plus().set(origin);
    const strides = [...shape.slice(0, rank).fill(0), most, 1];
    const view = { offset: 0, strides };
    const acc: Expr = { kind: "load", buffer: origin, view, dtype: "f32" };
    const finals = withAccs(outputs, [acc]);
    const exprs = finals.map(({ expr }) => expr);
    const corners = operandPlaces({ shape, a, b });
    const places = [...placesOf(finals), ...corners];
    const nest = new Nest(
      lanes,
      rank + 1,
      [{ exprs, places, within: rank + 1 }],
      part,
    );
    nest.enter(() =>
      nest.loops(shape.slice(0, rank), 0, () => {
        const [aAt, bAt] = addressesOf(nest, b, corners);
        code.get(aAt).set(x);
        code.get(bAt).push(j.from).const(bytes * across).op(i32.mul);
        code.plus().set(table);
        const isStraight = across === 1;
        const emit = isStraight ? emitSums : emitDots;
        emit(lanes, {
          rows: m,
          k,
          x,
          xRow: 4 * a.view.strides[rank]!,
          table,
          tableRow: bytes * (isStraight ? inner : across),
          dtype: b.dtype,
          ...b.blocks && { blocks: scaled(nest, b.blocks, j) },
          size: j.size,
          sums,
          sumsRow: 4 * most,
          scratch,
        });
        finish(j);
      })
    );

    function scaled(
      nest: Nest,
      { levels, buffer, offset, times }: Blocks,
      j: Block,
    ): ScaledBlocks {
      const scales = addressIn(nest, buffer, 4 * offset);
      const scalesRow = 4 * across / times;
      code.get(scales).push(j.from).const(scalesRow).op(i32.mul).plus();
      code.set(scales);
      return { levels, times, scales, scalesRow };
    }

    /** Computes the outputs of a block. */
    function finish(j: Block): void {
      nest.loop(rank, 0, m, () =>
        nest.loop(
          rank + 1,
          j.from,
          j.to,
          ({ copies }) => storeAll(nest, finals, copies),
          phasesOf(copiesFor(exprs)),
        ));
    }
  });
}
