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
import { allStrips, STRIP, strip } from "./strips.ts";

/** Functions that pack matrices of one dtype. */
const PACKERS = 5;

/** Numbers of the functions that pack a matrix of one dtype. */
export interface Packers {
  /** Packs any matrix. */
  readonly any: number;
  /** Packs a right operand with contiguous rows. */
  readonly rows: number;
  /** Packs a right operand with contiguous columns. */
  readonly columns: number;
  /** The same for a left operand, into panels as wide as a strip is high: where its columns are contiguous. */
  readonly stripRows: number;
  /** Where the rows of a left operand are contiguous. */
  readonly stripColumns: number;
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
export function sharedNumbers(): Shared {
  const rows = PACKERS + 2 * STRIP;
  return {
    pack: {
      f32: packersFrom(0),
      bf16: packersFrom(rows + 2),
      f16: packersFrom(rows + 2 + PACKERS),
    },
    rows,
    columns: rows + 1,
  };
}

/** How many of the shared functions must be there for a product. */
export function sharedCount({ a, b }: MatmulKernel): number {
  const { pack, columns } = sharedNumbers();
  const isWide = a.dtype === "f32" && b.dtype === "f32";
  return 1 + (isWide ? columns : pack.f16.stripColumns);
}

/** The shared functions in the order of their numbers. */
export function sharedFunctions(
  relaxed: boolean,
  bits: AddressBits,
): FunctionCode[] {
  const { pack } = sharedNumbers();
  const packers = (dtype: Packed): FunctionCode[] => {
    const { any } = pack[dtype];
    return [
      packAny(dtype, bits),
      packRows(dtype, any, PANEL, bits),
      packColumns(dtype, any, PANEL, bits),
      packRows(dtype, any, STRIP, bits),
      packColumns(dtype, any, STRIP, bits),
    ];
  };
  const heights = Array.from({ length: STRIP }, (_, i) => i + 1);
  return [
    ...packers("f32"),
    ...heights.map((rows) => strip(rows, "rows", relaxed, bits)),
    ...heights.map((rows) => strip(rows, "columns", relaxed, bits)),
    allStrips(PACKERS, bits),
    allStrips(PACKERS + STRIP, bits),
    ...packers("bf16"),
    ...packers("f16"),
  ];
}

function packersFrom(first: number): Packers {
  return {
    any: first,
    rows: first + 1,
    columns: first + 2,
    stripRows: first + 3,
    stripColumns: first + 4,
  };
}
