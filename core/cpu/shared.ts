/**
 * The functions that all matrix products call; they come first in a module, so that their numbers are known. Those for
 * halves are the last of them, and left out where there are no halves.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { MatmulKernel } from "../plan/kernel.ts";
import type { AddressBits, FunctionCode } from "./assembler.ts";
import {
  packAny,
  packColumns,
  type Packed,
  packRows,
  PANEL,
} from "./packing.ts";
import { allStrips, strip, stripRows } from "./strips.ts";

/** Panels of a right operand that are packed together. */
const GROUP = 8;

/** Numbers of the functions that pack a matrix of one dtype. */
export interface Packers {
  /** Packs any matrix. */
  readonly any: number;
  /** Packs a right operand with contiguous rows. */
  readonly rows: number;
  /** Packs a right operand with contiguous columns. */
  readonly columns: number;
  /** Packs a left operand with contiguous columns, into panels as wide as a strip is high. */
  readonly strips: number;
}

/** Numbers of the shared functions. */
export interface Shared {
  /** Pack a matrix, by its dtype. */
  readonly pack: { readonly [D in Packed]: Packers };
  /** Multiplies a left operand with contiguous rows. */
  readonly rows: number;
  /** Multiplies a left operand with contiguous columns, or packed. */
  readonly columns: number;
}

/** The numbers of the shared functions. */
export function sharedNumbers(relaxed: boolean): Shared {
  const rows = 4 + 2 * stripRows(relaxed);
  return {
    pack: {
      f32: packersFrom(0),
      bf16: packersFrom(rows + 2),
      f16: packersFrom(rows + 6),
    },
    rows,
    columns: rows + 1,
  };
}

/** How many of the shared functions must be there for a product. */
export function sharedCount(
  { a, b }: MatmulKernel,
  relaxed: boolean,
): number {
  const { pack, columns } = sharedNumbers(relaxed);
  const isWide = a.dtype === "f32" && b.dtype === "f32";
  return 1 + (isWide ? columns : pack.f16.strips);
}

/** The shared functions in the order of their numbers. */
export function sharedFunctions(
  relaxed: boolean,
  bits: AddressBits,
): FunctionCode[] {
  const most = stripRows(relaxed);
  const { pack } = sharedNumbers(relaxed);
  const packers = (dtype: Packed): FunctionCode[] => {
    const { any } = pack[dtype];
    return [
      packAny(dtype, bits),
      packRows(dtype, any, PANEL, GROUP, bits),
      packColumns(dtype, any, bits),
      packRows(dtype, any, most, 1, bits),
    ];
  };
  const heights = Array.from({ length: most }, (_, i) => i + 1);
  return [
    ...packers("f32"),
    ...heights.map((rows) => strip(rows, "rows", relaxed, bits)),
    ...heights.map((rows) => strip(rows, "columns", relaxed, bits)),
    allStrips(most, 4, bits),
    allStrips(most, 4 + most, bits),
    ...packers("bf16"),
    ...packers("f16"),
  ];
}

function packersFrom(first: number): Packers {
  return {
    any: first,
    rows: first + 1,
    columns: first + 2,
    strips: first + 3,
  };
}
