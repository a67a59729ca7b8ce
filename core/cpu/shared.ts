/**
 * The functions that all matrix products call; they come first in a module, so that their numbers are known.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { FunctionCode } from "./assembler.ts";
import { PACK_ANY, packAny, packColumns, packRows, PANEL } from "./packing.ts";
import { allStrips, strip, stripRows } from "./strips.ts";

/** Panels of a right operand that are packed together. */
const GROUP = 8;

/** Numbers of the shared functions. */
export interface Shared {
  /** Packs any matrix. */
  readonly packAny: number;
  /** Packs a right operand with contiguous rows. */
  readonly packRows: number;
  /** Packs a right operand with contiguous columns. */
  readonly packColumns: number;
  /** Packs a left operand with contiguous columns, into panels as wide as a strip is high. */
  readonly packStrips: number;
  /** Multiplies a left operand with contiguous rows. */
  readonly rows: number;
  /** Multiplies a left operand with contiguous columns, or packed. */
  readonly columns: number;
}

/** The numbers of the shared functions. */
export function sharedNumbers(relaxed: boolean): Shared {
  const most = stripRows(relaxed);
  return {
    packAny: PACK_ANY,
    packRows: 1,
    packColumns: 2,
    packStrips: 3,
    rows: 4 + 2 * most,
    columns: 5 + 2 * most,
  };
}

/** The shared functions in the order of their numbers. */
export function sharedFunctions(relaxed: boolean): FunctionCode[] {
  const most = stripRows(relaxed);
  const heights = Array.from({ length: most }, (_, i) => i + 1);
  return [
    packAny(),
    packRows(PANEL, GROUP),
    packColumns(),
    packRows(most, 1),
    ...heights.map((rows) => strip(rows, "rows", relaxed)),
    ...heights.map((rows) => strip(rows, "columns", relaxed)),
    allStrips(most, 4),
    allStrips(most, 4 + most),
  ];
}
