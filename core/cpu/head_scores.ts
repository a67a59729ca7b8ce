/**
 * Scores of examples with blocks of a table's rows, which the fused losses of a head never store as a whole.
 *
 * A block has a row for each row of the table and a column for each example: so the table is read where it is, as the
 * left operand, and only the examples, which are few, are packed.
 *
 * Letters: N examples, V rows of the table, D their size.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { bytesPerElement } from "../backend.ts";
import { isHalf } from "../half.ts";
import type { Strided } from "../plan/kernel.ts";
import {
  type Block,
  type Bound,
  type FunctionBuilder,
  type Local,
  type Pointer,
  SGEMM,
} from "./assembler.ts";
import { widen } from "./half.ts";
import type { Lanes } from "./lanes.ts";
import { i32, select, v128 } from "./opcodes.ts";
import { type Packed, PANEL } from "./packing.ts";
import { addToRows } from "./score_columns.ts";
import { sharedNumbers } from "./shared.ts";
import type { StageBuilder } from "./stages.ts";
import { innerBlock, STRIP, TILE_BYTES } from "./strips.ts";
import { PACK } from "./work.ts";

/** Rows of the table in a block, whole strips: with the scores they stay in the second cache. */
const BLOCK = 120;

/** The same for a BLAS, which packs the examples again for each block. */
const BLAS_BLOCK = 960;

/** Most examples that share a block, whole panels. */
const GROUP = 128;

/** Most columns for which packing strips of the table costs more than it saves. */
const FEW_COLUMNS = 64;

/**
 * Most examples that are a group of their own where scores are kept, since passes over the table cost more than scores
 * that are computed again; and most of a group else. A BLAS computes faster, but reads and writes no faster.
 */
const KEPT = { alone: 32, most: 128 }, BLAS_KEPT = { alone: 128, most: 512 };

/** Some floats between rows of scores, so that those of a column do not fall on the same lines of a cache. */
const SKEW = 16;

/** What scores are made of. */
export interface Head {
  /** f32 [N, D], its rows contiguous. */
  readonly x: Strided;
  /** [V, D], likewise. */
  readonly table: Strided;
  /** What is added to scores, [V]; none if absent. */
  readonly bias: Strided | undefined;
}

/** Where the parts of a computation in blocks are. */
export interface Scores {
  /** Rows of the table in a block. */
  readonly rows: number;
  /** Examples of a group, whole panels. */
  readonly group: number;
  /** Number of groups. */
  readonly groups: number;
  /** Whether the scores of all blocks with a group have a place each. */
  readonly isKept: boolean;
  /** Bytes from a row of scores to the next. */
  readonly stride: number;
  /** Bytes from a row of the table to the next, as the blocks that `emit` gives have it. */
  readonly rowStride: number;
  /** How many of the shared functions it needs. */
  readonly shared: number;
  /** Pushes the address of the tile for products. */
  readonly pushTile: (code: FunctionBuilder) => void;
  /** Emits the address of a block of the table, copied if products cannot read it where it is. */
  readonly tableAt: (lanes: Lanes, rows: Block) => Pointer;
  /** Emits the address of the scores of a block. */
  readonly scoresAt: (lanes: Lanes, rows: Block) => Pointer;
  /** Emits these scores, with some examples. */
  readonly emit: (
    lanes: Lanes,
    examples: Examples,
    rows: Block,
    table: Pointer,
  ) => Pointer;
}

/** The examples of a group. */
export interface Examples {
  /** The first. */
  readonly from: Bound;
  /** How many there are. */
  readonly count: Bound;
  /** That, in whole panels. */
  readonly columns: Local;
}

/**
 * Takes the scratch memory that scores need, and adds the stage that packs the examples. With `keeps` the scores of a
 * group are kept if it is not the only one: they would be all of them.
 */
export function scoresOf(
  stages: StageBuilder,
  { x, table, bias }: Head,
  keeps = false,
): Scores {
  const [N, D] = x.shape as [number, number], V = table.shape[0]!;
  const { common, own, hasBlas } = stages;
  const rows = hasBlas ? BLAS_BLOCK : BLOCK;
  const shared = sharedNumbers();
  const kept = hasBlas ? BLAS_KEPT : KEPT;
  const isKept = keeps && N > kept.alone;
  const least = isKept
    ? Math.max(2, Math.ceil(N / kept.most))
    : Math.ceil(N / GROUP);
  const group = toPanels(Math.ceil(N / least)), groups = Math.ceil(N / group);
  const packs = !hasBlas && group > FEW_COLUMNS;
  const stride = 4 * (isKept ? group : group + SKEW);
  const panels = hasBlas ? 0 : stages.takeCommon(4 * toPanels(N) * D);
  const tile = stages.takeOwn(TILE_BYTES);
  const scores = isKept
    ? stages.takeCommon(V * stride)
    : stages.takeOwn(rows * stride);
  const isInPlace = table.dtype === "f32" && D % PANEL === 0;
  const copyAt = isInPlace ? 0 : stages.takeOwn(4 * rows * toPanels(D));
  const inTable = bytesPerElement(table.dtype) * table.view.strides[0]!;
  const rowStride = isInPlace ? inTable : 4 * toPanels(D);
  const kBlock = innerBlock(D);
  const strips = packs ? stages.takeOwn(4 * (rows + STRIP) * kBlock) : 0;
  const inX = 4 * x.view.strides[0]!;

  if (!hasBlas) {
    stages.add(PACK * N * D, null, ({ code }) => {
      pushStart(code, x).const(inX).get(common).const(panels).plus();
      code.const(D).const(N).call(shared.pack.f32.columns);
    });
  }

  return {
    rows,
    group,
    groups,
    isKept,
    stride,
    rowStride,
    shared: 1 +
      (isHalf(table.dtype) ? shared.pack.f16.stripColumns : shared.columns),
    pushTile: (code) => code.get(own).const(tile).plus(),
    tableAt(lanes, { from, size }) {
      const { code } = lanes, block = code.pointer();
      pushStart(code, table).push(from).const(inTable).op(i32.mul).plus();
      code.set(block);
      if (!isInPlace) code.scope(() => copy(lanes, block, size));
      return block;
    },
    scoresAt({ code }, { from }) {
      const at = code.pointer();
      code.get(isKept ? common : own).const(scores).plus();
      if (isKept) code.push(from).const(stride).op(i32.mul).plus();
      code.set(at);
      return at;
    },
    emit(lanes, examples, rows, block) {
      const at = this.scoresAt(lanes, rows);
      multiply(lanes, examples, rows, block, at);
      if (bias) {
        const { code } = lanes, first = code.pointer();
        pushStart(code, bias).push(rows.from).const(4).op(i32.mul).plus();
        code.set(first);
        const list = { at, stride, count: rows.size };
        addToRows(lanes, examples.columns, first, list);
      }
      return at;
    },
  };

  /** Multiplies a block of the table by some examples. */
  function multiply(
    { code }: Lanes,
    { from, count, columns }: Examples,
    rows: Block,
    block: Pointer,
    at: Pointer,
  ): void {
    if (hasBlas) {
      code.const(0).const(1).push(rows.size).push(count).const(D);
      code.get(block).const(rowStride / 4);
      pushStart(code, x).push(from).const(inX).op(i32.mul).plus();
      code.const(inX / 4).get(at).const(stride / 4).const(0);
      code.callImported(SGEMM);
      return;
    }
    code.blocks({ from: 0, to: D }, kBlock, (k) => {
      code.get(block).push(k.from).const(4).op(i32.mul).plus();
      code.const(rowStride);
      if (packs) {
        code.get(own).const(strips).plus().push(k.size).push(rows.size);
        code.call(shared.pack.f32.stripColumns);
        code.get(own).const(strips).plus().const(4 * STRIP);
        code.push(k.size).const(4 * STRIP).op(i32.mul);
      } else code.const(STRIP * rowStride);
      code.get(common).const(panels).plus();
      code.push(from).const(4 * D).op(i32.mul).plus();
      code.push(k.from).const(4 * PANEL).op(i32.mul).plus();
      code.const(4 * PANEL).const(4 * PANEL * D);
      code.get(at).const(stride);
      code.push(rows.size).get(columns).push(k.size);
      code.push(k.from).op(i32.eqz);
      code.get(own).const(tile).plus();
      code.call(packs ? shared.columns : shared.rows);
    });
  }

  /** Copies a block as f32, its rows in whole panels; moves its address there. */
  function copy(lanes: Lanes, block: Pointer, count: Bound): void {
    const { code } = lanes, { dtype } = table;
    const bytes = bytesPerElement(dtype);
    const [from, to, row] = code.pointers(3), left = code.local();
    code.get(block).set(row);
    code.get(own).const(copyAt).plus().tee(to).set(block);
    if (D % PANEL > 0) {
      // One panel as wide as a row.
      code.get(row).const(inTable).const(bytes).get(to);
      code.push(count).const(D).const(toPanels(D));
      code.call(shared.pack[dtype as Packed].any);
      return;
    }
    const rowsLeft = code.local();
    code.push(count).set(rowsLeft);
    code.doWhile(() => {
      code.get(row).set(from).const(D / 4).set(left);
      code.doWhile(() => {
        code.get(from);
        code.memory(isHalf(dtype) ? v128.load16x4U : v128.load);
        const loaded = lanes.pop();
        const four = isHalf(dtype) ? widen(lanes, loaded, dtype) : loaded;
        code.get(to, four.local).memory(v128.store);
        code.increment(from, 4 * bytes).increment(to, 16).increment(left, -1);
      }, () => code.get(left));
      code.increment(row, inTable).increment(rowsLeft, -1);
    }, () => code.get(rowsLeft));
  }
}

/** A number of columns in whole panels. */
export function toPanels(count: number): number {
  return PANEL * Math.ceil(count / PANEL);
}

/** Pushes the address of the first element. */
export function pushStart(
  code: FunctionBuilder,
  { buffer, view, dtype }: Strided,
): FunctionBuilder {
  return code.get(buffer as Pointer)
    .const(bytesPerElement(dtype) * view.offset).plus();
}

/** The examples of a block of them. */
export function examplesOf(
  code: FunctionBuilder,
  { from, size }: Block,
): Examples {
  const columns = code.local();
  code.push(size).const(PANEL - 1).op(i32.add).const(PANEL).op(i32.divU);
  code.const(PANEL).op(i32.mul).set(columns);
  return { from, count: size, columns };
}

/** One of the blocks of an extent, whose number is in a local. */
export function blockOf(
  code: FunctionBuilder,
  number: Local,
  step: number,
  extent: number,
): Block {
  const [from, to, size] = code.locals(3);
  code.get(number).const(step).op(i32.mul).tee(from);
  code.const(step).op(i32.add).tee(to).const(extent);
  code.get(to).const(extent).op(i32.ltS).op(select).tee(to);
  code.get(from).op(i32.sub).set(size);
  return { from: { local: from }, to: { local: to }, size: { local: size } };
}
