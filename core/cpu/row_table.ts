/**
 * Tables of products of few rows: floats, halves, or bytes whose scales are taken out of the product.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { bytesPerElement } from "../backend.ts";
import { entry, viewMapper, viewsOf } from "../plan/expression.ts";
import type { Expr, MatmulKernel, Matrix, View } from "../plan/kernel.ts";
import { transposed, withAccs } from "./arrange.ts";
import type { Pointer } from "./assembler.ts";
import { corner } from "./matmul.ts";
import type { Nest } from "./nest.ts";
import type { Packed } from "./packing.ts";
import type { TypedPlace } from "./places.ts";

/** Most rows, and fewest columns. */
const MOST_ROWS = 4, LEAST_COLUMNS = 8;

/** Elements of a matrix that a cache holds. */
const CACHED = 2 ** 18;

/** Most rows that meet groups of four bits. */
const MOST_UNPACKED = 2;

/** Groups of four bits that are read together. */
export const LINE = 16;

/** What a table holds: floats, halves, or bytes that stand for a number from -128 to 127, 128 added. */
export type Held = Packed | "bytes";

/** What groups of four bits stand for: levels, and a scale for each so many of them along the inner axis. */
export interface Blocks {
  /** The sixteen levels. */
  readonly levels: readonly number[];
  /** Which buffer holds the scales. */
  readonly buffer: number;
  /** Where the first is. */
  readonly offset: number;
  /** How many elements share one. */
  readonly times: number;
}

/** A table: element (b, i, j) is at `view` over `[...batch, k, n]`. */
export interface RowTable {
  /** Which buffer of the kernel. */
  readonly buffer: number;
  /** Where in it. A batch shares one that is packed. */
  readonly view: View;
  /** What it holds. */
  readonly dtype: Held;
  /** Of bytes that are two groups of four bits each. */
  readonly blocks?: Blocks;
}

/** A product of few rows with a table. */
export interface RowKernel extends Omit<MatmulKernel, "b"> {
  /** The right operand. */
  readonly b: RowTable;
}

/** Bytes of an element of a table. */
export function bytesOf(
  { dtype, blocks }: { readonly dtype: Held; readonly blocks?: unknown },
): number {
  if (blocks) return 0.5;
  return dtype === "bytes" ? 1 : bytesPerElement(dtype);
}

/** A product, or its transpose, as one of few rows with a table that can be read in long runs; null for another. */
export function asRowKernel(kernel: MatmulKernel): RowKernel | null {
  for (const one of [kernel, transposed(kernel)]) {
    const found = isOfRows(one) ? withTable(one) : null;
    if (found) return found;
  }
  return null;
}

function isOfRows({ shape, k, a, b }: MatmulKernel): boolean {
  const [m, n] = shape.slice(-2) as [number, number];
  if (k === 0 || m > MOST_ROWS || n < LEAST_COLUMNS || a.expr) return false;
  const [inner, across] = b.view.strides.slice(-2);
  if (inner !== 1 && across !== 1) return false;
  if (m === 1 || b.expr) return true;
  // What would have to be copied first, or fits the caches, is better packed.
  const isFast = across !== 1 || m === 2 || k * n > CACHED;
  return isReadable(a) && isFast;
}

/** Whether the rows of a left operand are contiguous floats, one behind the other. */
export function isReadable({ dtype, view, expr }: Matrix): boolean {
  const [row, element] = view.strides.slice(-2);
  return !expr && dtype === "f32" && row! >= 0 && element === 1;
}

/** A product with a table, whose scales move to the left operand or to the outputs; null where it cannot be one. */
function withTable(kernel: MatmulKernel): RowKernel | null {
  const { shape, a, b, outputs } = kernel;
  const { buffer, view, dtype, expr } = b;
  if (!expr) return { ...kernel, b: { buffer, view, dtype: dtype as Packed } };
  const blocks = blocksOf(kernel, expr);
  if (blocks) return { ...kernel, b: { buffer, view, dtype: "bytes", blocks } };
  const scale = scaleOf(expr);
  if (!scale) return null;
  const table: RowTable = { buffer, view, dtype: "bytes" };
  const rank = shape.length - 2;
  const isAlong = (axis: number) =>
    viewsOf(scale).every(({ strides }) =>
      strides.every((s, i) => s === 0 || i === axis)
    );
  // Both sides have the scale's axis last.
  const times = (x: Expr, axis: number): Expr => {
    const move = viewMapper(({ offset, strides }) => {
      const moved = new Array<number>(rank + 2).fill(0);
      return { offset, strides: moved.with(rank + 1, strides[axis]!) };
    });
    return { kind: "call", op: "mul", args: [x, move(scale)!], dtype: "f32" };
  };
  if (isAlong(rank)) {
    const scaled = times(entry(a, (view) => view), rank);
    return { ...kernel, a: { ...a, expr: scaled }, b: table };
  }
  if (!isAlong(rank + 1)) return null;
  const acc: Expr = { kind: "acc", index: 0, dtype: "f32" };
  const scaled = times(acc, rank + 1);
  return { ...kernel, b: table, outputs: withAccs(outputs, [scaled]) };
}

/** What bytes less 128 are multiplied by; null for another expression. */
function scaleOf(expr: Expr): Expr | null {
  if (expr.kind !== "call" || expr.op !== "mul") return null;
  const [integer, scale] = expr.args as [Expr, Expr];
  if (integer.kind !== "call" || integer.op !== "sub") return null;
  const [field, middle] = integer.args as [Expr, Expr];
  const isByte = field.kind === "unpack" && !field.levels &&
    middle.kind === "const" && middle.value === 128;
  return isByte ? scale : null;
}

/** What groups of four bits stand for where blocks of them lie along the inner axis; null for another expression. */
function blocksOf({ shape, k }: MatmulKernel, expr: Expr): Blocks | null {
  if (expr.kind !== "call" || expr.op !== "mul") return null;
  const [field, scale] = expr.args as [Expr, Expr];
  if (field.kind !== "unpack" || scale.kind !== "repeat") return null;
  const { levels, view } = field, { buffer, times } = scale;
  const [inner, across] = view.strides.slice(-2) as [number, number];
  const isAlike = view.strides.every((s, i) => s === scale.view.strides[i]);
  const starts = [k, across, view.offset, scale.view.offset];
  const areWhole = times % LINE === 0 && starts.every((s) => s % times === 0);
  if (!levels || !isAlike || !areWhole || inner !== 1) return null;
  if (scale.dtype !== "f32" || shape.at(-2)! > MOST_UNPACKED) return null;
  return { levels, buffer, offset: scale.view.offset / times, times };
}

/** What a nest has to know to give the addresses of the operands of a batch. */
export function operandPlaces(
  { a, b, shape }: Pick<RowKernel, "a" | "b" | "shape">,
): TypedPlace[] {
  const rank = shape.length - 2;
  const { buffer, view, dtype } = b;
  const matrices: Matrix[] = dtype === "bytes"
    ? [a]
    : [a, { buffer, view, dtype }];
  return matrices.map((matrix) => corner(matrix, rank));
}

/** The addresses of the first elements of both operands of a batch. */
export function addressesOf(
  nest: Nest,
  table: RowTable,
  places: readonly TypedPlace[],
): [Pointer, Pointer] {
  const [a, b] = places.map((place) => nest.address(place));
  const first = bytesOf(table) * table.view.offset;
  return [a!, b ?? addressIn(nest, table.buffer, first)];
}

/** A new local with an address in a buffer. */
export function addressIn(
  { lanes: { code } }: Nest,
  buffer: number,
  bytes: number,
): Pointer {
  const pointer = code.pointer();
  code.get(buffer as Pointer).const(bytes).plus().set(pointer);
  return pointer;
}
