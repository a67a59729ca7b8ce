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
import { isHalf } from "../half.ts";
import { buffersOf } from "../plan/expression.ts";
import type { Expr, MatmulKernel, Matrix, View } from "../plan/kernel.ts";
import { sizeOf } from "../shape.ts";
import { withAccs } from "./arrange.ts";
import type { Block, Bound, FunctionBuilder, Local } from "./assembler.ts";
import type { Lanes } from "./lanes.ts";
import { copiesFor, storeAll } from "./map.ts";
import { Nest, phasesOf, placesOf } from "./nest.ts";
import { i32 } from "./opcodes.ts";
import { type Packed, PANEL } from "./packing.ts";
import { sharedNumbers } from "./shared.ts";
import { stripRows, TILE_BYTES } from "./strips.ts";

/** Rows of a block, a multiple of those of a strip, five or six. */
const M_BLOCK = 60;

/** Columns of a block: its panels stay in the second cache. */
const N_BLOCK = 512;

/** Most of the inner size in a block. A longer one is faster by a few hundredths, and loses more to rounding. */
const K_BLOCK = 96;

/** Most columns for which packing the left operand costs more than it saves. */
const FEW_COLUMNS = 32;

/** Longest rows that are read in place, by panels: of longer ones each is on a page of its own. */
const SHORT_ROW = 1024;

/** Emits a product; its buffers and then the scratch memory are the parameters. Gives the bytes of scratch it needs. */
export function emitMatmul(
  lanes: Lanes,
  kernel: MatmulKernel,
  scratch: Local,
): number {
  const { shape, k, a, b } = kernel;
  if (sizeOf(shape) === 0) return 0;
  const { code, relaxed } = lanes;
  const rank = shape.length - 2;
  const [m, n] = shape.slice(rank) as [number, number];
  const [aRow, aColumn] = a.view.strides.slice(rank) as [number, number];
  const [bRow, bColumn] = b.view.strides.slice(rank) as [number, number];
  const strip = stripRows(relaxed);
  const shared = sharedNumbers(relaxed);

  const orderA = a.dtype !== "f32"
    ? "packed"
    : aColumn === 1
    ? "rows"
    : aRow === 1 && n <= FEW_COLUMNS
    ? "columns"
    : "packed";
  const packsA = orderA === "packed";
  const packsB = bColumn !== 1 || n % PANEL !== 0 ||
    m > 2 * strip || bRow > SHORT_ROW || b.dtype !== "f32";
  const aBytes = bytesPerElement(a.dtype), bBytes = bytesPerElement(b.dtype);
  const packersA = shared.pack[a.dtype as Packed];
  const packersB = shared.pack[b.dtype as Packed];
  // Blocks of about one size, whole steps of four.
  const kBlock = 4 * Math.ceil(k / Math.ceil(k / K_BLOCK) / 4);
  const panelBytes = 4 * Math.min(k, kBlock);
  const bAt = TILE_BYTES;
  const columns = Math.ceil(Math.min(n, N_BLOCK) / PANEL) * PANEL;
  const aAt = bAt + (packsB ? panelBytes * columns : 0);
  const cAt = aAt + (packsA ? panelBytes * (M_BLOCK + strip) : 0);
  const target = targetOf(kernel, scratch, cAt / 4);
  const { c, outputs } = target;
  const cRow = c.view.strides[rank]!;

  const exprs = outputs.map((o) => o.expr);
  const corners = [a, b, c].map((x) => corner(x, rank));
  const places = [...placesOf(outputs), ...corners];
  const nest = new Nest(lanes, rank + 1, [{ exprs, places, within: rank + 1 }]);

  nest.enter(() =>
    nest.loops(shape.slice(0, -2), 0, () => {
      const [aBase, bBase, cBase] = corners.map((x) => nest.address(x)) as [
        Local,
        Local,
        Local,
      ];
      code.blocks(n, N_BLOCK, (j) =>
        code.blocks(k, kBlock, (p) => {
          if (packsB) packB(bBase, j, p);
          code.blocks(m, M_BLOCK, (i) => {
            if (packsA) packA(aBase, i, p);
            multiply(aBase, bBase, cBase, i, j, p);
            if (outputs.length === 0) return;
            if (k <= kBlock) return finish(i, j);
            code.push(p.to).const(k).op(i32.eq).if(() => finish(i, j));
          });
        }));
    })
  );
  return cAt + target.bytes;

  function packB(base: Local, j: Block, p: Block): void {
    const order = bColumn === 1 ? "rows" : bRow === 1 ? "columns" : "any";
    address(code, base, [[p.from, bBytes * bRow], [j.from, bBytes * bColumn]]);
    if (order !== "columns") code.const(bBytes * bRow);
    if (order !== "rows") code.const(bBytes * bColumn);
    code.get(scratch).const(bAt).op(i32.add);
    code.push(p.size).push(j.size);
    if (order === "any") code.const(PANEL).call(packersB.any);
    else code.call(order === "rows" ? packersB.rows : packersB.columns);
  }

  function packA(base: Local, i: Block, p: Block): void {
    address(code, base, [[i.from, aBytes * aRow], [p.from, aBytes * aColumn]]);
    code.const(aBytes * aColumn);
    if (aRow !== 1) code.const(aBytes * aRow);
    code.get(scratch).const(aAt).op(i32.add);
    code.push(p.size).push(i.size);
    if (aRow === 1) code.call(packersA.strips);
    else code.const(strip).call(packersA.any);
  }

  function multiply(
    aBase: Local,
    bBase: Local,
    cBase: Local,
    i: Block,
    j: Block,
    p: Block,
  ): void {
    if (packsA) {
      code.get(scratch).const(aAt).op(i32.add).const(4 * strip);
      code.push(p.size).const(4 * strip).op(i32.mul);
    } else {
      address(code, aBase, [[i.from, 4 * aRow], [p.from, 4 * aColumn]]);
      code.const(4 * (orderA === "rows" ? aRow : aColumn));
      code.const(4 * strip * aRow);
    }
    if (packsB) {
      code.get(scratch).const(bAt).op(i32.add).const(4 * PANEL);
      code.push(p.size).const(4 * PANEL).op(i32.mul);
    } else {
      address(code, bBase, [[p.from, 4 * bRow], [j.from, 4]]);
      code.const(4 * bRow).const(4 * PANEL);
    }
    address(code, cBase, [[i.from, 4 * cRow], [j.from, 4]]);
    code.const(4 * cRow);
    code.push(i.size).push(j.size).push(p.size);
    code.push(p.from).op(i32.eqz).get(scratch);
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
  base: Local,
  terms: readonly [Bound, number][],
): void {
  code.get(base);
  for (const [index, bytes] of terms) {
    if (index === 0) continue;
    code.push(index).const(bytes).op(i32.mul).op(i32.add);
  }
}

/** The first element of each matrix of a batch. */
function corner({ buffer, view, dtype }: Matrix, rank: number): Matrix {
  const strides = view.strides.map((s, i) => i < rank ? s : 0);
  return { buffer, view: { offset: view.offset, strides }, dtype };
}

/** Where the product accumulates, and what is left to compute from it. */
function targetOf(
  { shape, outputs }: MatmulKernel,
  scratch: Local,
  scratchOffset: number,
): { c: Matrix; outputs: MatmulKernel["outputs"]; bytes: number } {
  const [m, n] = shape.slice(-2) as [number, number];
  // Sums must not gather where an output still has to read.
  const read = new Set(outputs.flatMap((o) => [...buffersOf(o.expr)]));
  const hosts = outputs.filter((o) =>
    o.view.strides.at(-1) === 1 && !read.has(o.buffer) &&
    !isHalf(o.expr.dtype)
  );
  const host = hosts.find((o) => o.expr.kind === "acc") ?? hosts[0];
  const inScratch: View = {
    offset: scratchOffset,
    strides: [...shape.slice(0, -2).fill(0), n, 1],
  };
  const { buffer, view } = host ?? { buffer: scratch, view: inScratch };
  const c: Matrix = { buffer, view, dtype: "f32" };
  const acc: Expr = { kind: "load", ...c };
  const rest = outputs.filter((o) => o !== host || o.expr.kind !== "acc");
  return {
    c,
    outputs: withAccs(rest, [acc]),
    bytes: host ? 0 : 4 * m * n,
  };
}
