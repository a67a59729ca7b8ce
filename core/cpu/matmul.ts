/**
 * Matrix products as WebAssembly: blocks that fit the caches, over the functions of `shared.ts`.
 *
 * The product accumulates in an output, or in scratch memory if no output has contiguous rows; once a block of it is
 * complete the outputs are computed from it.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { bytesPerElement } from "../backend.ts";
import type { MatmulKernel, Matrix } from "../plan/kernel.ts";
import { sizeOf } from "../shape.ts";
import { transposed } from "./arrange.ts";
import type {
  Block,
  Bound,
  FunctionBuilder,
  Pointer,
  Range,
} from "./assembler.ts";
import type { Lanes } from "./lanes.ts";
import { type Computed, computedBytes, packComputed } from "./computed.ts";
import { copiesFor, storeAll } from "./map.ts";
import { Nest } from "./nest.ts";
import { i32 } from "./opcodes.ts";
import { placesOf } from "./places.ts";
import { phasesOf } from "./pointers.ts";
import { type Packed, PANEL } from "./packing.ts";
import { emitChoice, emitState, type Keeping, packOf } from "./packs.ts";
import { sharedNumbers } from "./shared.ts";
import {
  type Division,
  type Part,
  shareOf,
  type Split,
  splitAxis,
} from "./split.ts";
import type { StageBuilder } from "./stages.ts";
import { innerBlock, STRIP, TILE_BYTES } from "./strips.ts";
import { type Target, targetOf } from "./target.ts";
import { MADD, PACK, workOf } from "./work.ts";

/** Rows of a block, whole strips; of rows that are read in place few, so that they are read whole. */
const M_BLOCK = { packed: 60, columns: 60, rows: 20 };

/** Columns of a block: its panels stay in the second cache. */
const N_BLOCK = 512;

/** Most bytes of a right operand that is packed as a whole: it stays in the second cache. */
const PACKED_BYTES = 2 ** 19;

/** Most rows of a product whose large right operand had better be the left one. */
const FEW_ROWS = 32;

/** Most columns for which packing the left operand costs more than it saves, if its rows or columns are contiguous. */
const FEW_COLUMNS = { rows: 64, columns: 32 };

/** Longest rows that are read in place, by panels: of longer ones each is on a page of its own. */
const SHORT_ROW = 1024;

/** Emits a product as a stage. */
export function emitMatmul(stages: StageBuilder, given: MatmulKernel): void {
  const kernel = withLargeLeft(given);
  const { shape, k } = kernel;
  if (sizeOf(shape) === 0) return;
  const layout = layoutOf(kernel);
  const exprs = kernel.outputs.map((o) => o.expr);
  const work = MADD * sizeOf(shape) * k + workOf(sizeOf(shape), exprs);
  const split = stages.divide(
    work,
    (division) => splitProduct(kernel, layout, division),
  );
  const own = stages.takeOwn(layout.bytes);
  // Products of a batch that run at the same time must not share what they accumulate in.
  const isApart = split !== null && split.axis < shape.length - 2;
  const scratch = isApart ? stages.own : stages.common;
  const take = (bytes: number): number =>
    isApart ? stages.takeOwn(bytes) : stages.takeCommon(bytes);
  const target = targetOf(kernel, scratch, take);
  const kept = isKept(kernel, layout, stages.keeping)
    ? stages.takePack(packOf(kernel.b, k, shape[1]!, innerOf(kernel, layout)))
    : null;
  stages.add(
    work,
    split,
    (lanes, part) =>
      emitBlocks(lanes, kernel, layout, target, part, stages.own, own, kept),
  );
}

/**
 * A product of few rows with a large transposed operand, a weight in a backward pass say, as (bᵀ aᵀ)ᵀ: the large one is
 * then read in place as it lies in memory, and the small one packed. Its elements take part in so few products that
 * packing them takes as long. Where the inner size is small that is not worth results that are stored one by one.
 */
function withLargeLeft(kernel: MatmulKernel): MatmulKernel {
  const { shape, k, b } = kernel;
  const [m, n] = shape.slice(-2) as [number, number];
  const [row, column] = b.view.strides.slice(-2) as [number, number];
  const isInPlace = row === 1 && column !== 1 && b.dtype === "f32" &&
    !b.expr;
  return isInPlace && m <= FEW_ROWS && m < n && 8 * m <= k
    ? transposed(kernel)
    : kernel;
}

/** How the operands of a product are read. */
interface Layout {
  /** Whether strips of the left operand are read by its rows, by its columns, or from a packed copy. */
  readonly orderA: "rows" | "columns" | "packed";
  /** Whether panels of the right operand are read in place, from a packed copy, or from one of a block of the inner size. */
  readonly orderB: "rows" | "packed" | "packed by blocks";
  /** The inner size of a block. */
  readonly kBlock: number;
  /** Where in a thread's scratch memory the packed left operand is; the right one is behind the tile. */
  readonly aAt: number;
  /** Where what is computed of an operand is until it is packed. */
  readonly computedAt: number;
  /** Bytes of a thread's scratch memory. */
  readonly bytes: number;
}

function layoutOf({ shape, k, a, b }: MatmulKernel): Layout {
  const rank = shape.length - 2;
  const [m, n] = shape.slice(rank) as [number, number];
  const [aRow, aColumn] = a.view.strides.slice(rank) as [number, number];
  const [bRow, bColumn] = b.view.strides.slice(rank) as [number, number];
  const orderA = a.dtype !== "f32" || a.expr
    ? "packed"
    : aColumn === 1 && n <= FEW_COLUMNS.rows
    ? "rows"
    : aRow === 1 && n <= FEW_COLUMNS.columns
    ? "columns"
    : "packed";
  const kBlock = innerBlock(k);
  const columns = Math.ceil(Math.min(n, N_BLOCK) / PANEL) * PANEL;
  const orderB = bColumn === 1 && n % PANEL === 0 && m <= 2 * STRIP &&
      bRow <= SHORT_ROW && b.dtype === "f32" && !b.expr
    ? "rows"
    : 4 * k * columns <= PACKED_BYTES && !b.expr
    ? "packed"
    : "packed by blocks";
  const inBlock = Math.min(k, kBlock);
  const bRows = { "rows": 0, "packed": k, "packed by blocks": inBlock }[orderB];
  const aAt = TILE_BYTES + 4 * bRows * columns;
  const packsA = orderA === "packed";
  const computedAt = aAt +
    (packsA ? 4 * inBlock * (M_BLOCK.packed + STRIP) : 0);
  const bytes = computedAt + (a.expr || b.expr ? computedBytes(kBlock) : 0);
  return { orderA, orderB, kBlock, aAt, computedAt, bytes };
}

/** Whether a pack of the right operand is worth keeping. */
function isKept(
  { shape, k, b }: MatmulKernel,
  { orderB }: Layout,
  { leastElements, mostRows }: Keeping,
): boolean {
  const [m, n] = shape as [number, number];
  return shape.length === 2 && orderB !== "rows" && b.dtype === "f32" &&
    !b.expr && m <= mostRows && k * n >= leastElements;
}

/** The inner size of blocks of the packed right operand. */
function innerOf({ k }: MatmulKernel, { orderB, kBlock }: Layout): number {
  return orderB === "packed" ? k : kBlock;
}

/**
 * The axis by which a product takes least time, in parts of whole `strip`s of rows: each thread packs what it needs of
 * both operands.
 */
export function splitProduct(
  { shape, k, a, b, outputs }: MatmulKernel,
  { orderA, orderB }: Pick<Layout, "orderA" | "orderB">,
  { threads }: Division,
  strip = STRIP,
): Split | null {
  const rank = shape.length - 2;
  const [m, n] = shape.slice(rank) as [number, number];
  const perProduct = m * n * k * MADD;
  const pack = (size: number, { expr }: Matrix): number =>
    PACK * size + (expr ? workOf(size, [expr]) : 0);
  const packA = orderA === "packed" ? pack(m * k, a) : 0;
  const packB = orderB !== "rows" ? pack(n * k, b) : 0;
  const batch = sizeOf(shape.slice(0, rank));
  let best: Split | null = null, least = batch * (perProduct + packA + packB);
  const consider = (split: Split, divided: number, repeated: number) => {
    if (outputs.some(({ view }) => view.strides[split.axis] === 0)) return;
    const used = threads * shareOf(split, threads);
    const time = batch * (divided / used + repeated);
    if (time < least) [best, least] = [split, time];
  };
  const all = perProduct + packA + packB;
  for (const [axis, extent] of shape.slice(0, rank).entries()) {
    consider(splitAxis(axis, extent, 1), all, 0);
  }
  consider(splitAxis(rank, m, strip), all - packB, packB);
  consider(splitAxis(rank + 1, n, PANEL), all - packA, packA);
  return best;
}

function emitBlocks(
  lanes: Lanes,
  kernel: MatmulKernel,
  layout: Layout,
  target: Target,
  part: Part | null,
  scratch: Pointer,
  start: number,
  kept: Pointer | null,
): void {
  const { shape, k, a, b } = kernel;
  const { orderA, orderB, kBlock } = layout;
  const { code } = lanes;
  const rank = shape.length - 2;
  const [aRow, aColumn] = a.view.strides.slice(rank) as [number, number];
  const [bRow, bColumn] = b.view.strides.slice(rank) as [number, number];
  const shared = sharedNumbers();
  const packsA = orderA === "packed";
  const aBytes = bytesPerElement(a.dtype), bBytes = bytesPerElement(b.dtype);
  const packersA = shared.pack[a.dtype as Packed];
  const packersB = shared.pack[b.dtype as Packed];
  const aAt = start + layout.aAt, bAt = start + TILE_BYTES;
  const few = { base: scratch, offset: start + layout.computedAt };
  const panelsA = { base: scratch, offset: aAt };
  const panels = code.pointer();
  const panelsB = { base: panels, offset: 0 };
  const { c, outputs } = target;
  const cRow = c.view.strides[rank]!;

  const exprs = outputs.map((o) => o.expr);
  const corners = [a, b, c].map((x) => corner(x, rank));
  const places = [...placesOf(outputs), ...corners];
  const regions = [{ exprs, places, within: rank + 1 }];
  const nest = new Nest(lanes, rank + 1, regions, part);
  const rangeOf = (axis: number): Range =>
    part?.axis === axis ? part : { from: 0, to: shape[axis]! };

  code.get(scratch).const(bAt).plus().set(panels);
  const found = kept === null ? null : emitState(code, kept);
  nest.enter(() =>
    nest.loops(shape.slice(0, -2), 0, () => {
      const [aBase, bBase, cBase] = corners.map((x) => nest.address(x)) as [
        Pointer,
        Pointer,
        Pointer,
      ];
      const blocksOfK = (body: (p: Block) => void) =>
        code.blocks({ from: 0, to: k }, kBlock, body);
      const blocksOfM = (body: (i: Block) => void) =>
        code.blocks(rangeOf(rank), M_BLOCK[orderA], body);
      const multiplyBlock = (i: Block, j: Block, p: Block) => {
        if (packsA) packA(aBase, i, p);
        multiply(aBase, bBase, cBase, i, j, p);
      };
      code.blocks(rangeOf(rank + 1), N_BLOCK, (j) => {
        if (orderB === "packed by blocks") {
          return blocksOfK((p) => {
            findB(bBase, j, p);
            blocksOfM((i) => {
              multiplyBlock(i, j, p);
              if (outputs.length === 0) return;
              code.push(p.to).const(k).op(i32.eq).if(() => finish(i, j));
            });
          });
        }
        if (orderB === "packed") findB(bBase, j, { from: 0, to: k, size: k });
        blocksOfM((i) => {
          blocksOfK((p) => multiplyBlock(i, j, p));
          if (outputs.length > 0) finish(i, j);
        });
      });
    })
  );

  /** Sees to it that the panels of a block are there. */
  function findB(base: Pointer, j: Block, p: Block): void {
    const pack = () => packB(base, j, p);
    if (kept === null || found === null) pack();
    else emitChoice(code, { kept, found }, panels, shape[1]!, p, j, pack);
  }

  function packB(base: Pointer, j: Block, p: Block): void {
    if (b.expr) {
      const matrix: Computed = {
        expr: b.expr,
        axes: [-2, -1],
        isByRows: bRow !== 1,
        width: PANEL,
        packers: packersB,
        kBlock,
      };
      return packComputed(lanes, matrix, p, j, few, panelsB);
    }
    const order = bColumn === 1 ? "rows" : bRow === 1 ? "columns" : "any";
    address(code, base, [[p.from, bBytes * bRow], [j.from, bBytes * bColumn]]);
    if (order !== "columns") code.const(bBytes * bRow);
    if (order !== "rows") code.const(bBytes * bColumn);
    code.get(panels).push(p.size).push(j.size);
    if (order === "any") code.const(PANEL).call(packersB.any);
    else code.call(order === "rows" ? packersB.rows : packersB.columns);
  }

  function packA(base: Pointer, i: Block, p: Block): void {
    if (a.expr) {
      const { stripRows: rows, stripColumns: columns } = packersA;
      const matrix: Computed = {
        expr: a.expr,
        axes: [-1, -2],
        isByRows: aRow === 1,
        width: STRIP,
        packers: { rows, columns },
        kBlock,
      };
      return packComputed(lanes, matrix, p, i, few, panelsA);
    }
    address(code, base, [[i.from, aBytes * aRow], [p.from, aBytes * aColumn]]);
    if (aRow !== 1) code.const(aBytes * (aColumn === 1 ? aRow : aColumn));
    else code.const(aBytes * aColumn);
    if (aRow !== 1 && aColumn !== 1) code.const(aBytes * aRow);
    code.get(scratch).const(aAt).plus();
    code.push(p.size).push(i.size);
    if (aRow === 1) code.call(packersA.stripRows);
    else if (aColumn === 1) code.call(packersA.stripColumns);
    else code.const(STRIP).call(packersA.any);
  }

  function multiply(
    aBase: Pointer,
    bBase: Pointer,
    cBase: Pointer,
    i: Block,
    j: Block,
    p: Block,
  ): void {
    if (packsA) {
      code.get(scratch).const(aAt).plus().const(4 * STRIP);
      code.push(p.size).const(4 * STRIP).op(i32.mul);
    } else {
      address(code, aBase, [[i.from, 4 * aRow], [p.from, 4 * aColumn]]);
      code.const(4 * (orderA === "rows" ? aRow : aColumn));
      code.const(4 * STRIP * aRow);
    }
    if (orderB === "packed") {
      address(code, panels, [[p.from, 4 * PANEL]]);
      code.const(4 * PANEL).const(4 * PANEL * k);
    } else if (orderB === "packed by blocks") {
      code.get(panels).const(4 * PANEL);
      code.push(p.size).const(4 * PANEL).op(i32.mul);
    } else {
      address(code, bBase, [[p.from, 4 * bRow], [j.from, 4]]);
      code.const(4 * bRow).const(4 * PANEL);
    }
    address(code, cBase, [[i.from, 4 * cRow], [j.from, 4]]);
    code.const(4 * cRow);
    code.push(i.size).push(j.size).push(p.size);
    code.push(p.from).op(i32.eqz).get(scratch).const(start).plus();
    code.call(orderA === "rows" ? shared.rows : shared.columns);
  }

  /** Computes the outputs of a block. */
  function finish(i: Block, j: Block): void {
    const phases = phasesOf(copiesFor(exprs));
    nest.loop(rank, i.from, i.to, () =>
      nest.loop(
        rank + 1,
        j.from,
        j.to,
        ({ copies }) => storeAll(nest, outputs, copies),
        phases,
      ));
  }
}

/** Pushes an address: a base and indices times bytes. */
function address(
  code: FunctionBuilder,
  base: Pointer,
  terms: readonly [Bound, number][],
): void {
  code.get(base);
  for (const [index, bytes] of terms) {
    if (index === 0) continue;
    code.push(index).const(bytes).op(i32.mul).plus();
  }
}

/** The first element of each matrix of a batch. */
export function corner({ buffer, view, dtype }: Matrix, rank: number): Matrix {
  const strides = view.strides.map((s, i) => i < rank ? s : 0);
  return { buffer, view: { offset: view.offset, strides }, dtype };
}
