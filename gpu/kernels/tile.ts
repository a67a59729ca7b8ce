/**
 * What the two ways of tiling a matrix product share.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { MatmulKernel } from "../../core/plan/kernel.ts";
import type { Shader } from "../shader.ts";

/** A matrix product and what tiles are chosen by. */
export interface Product {
  /** The kernel. */
  readonly kernel: MatmulKernel;
  /** Rows. */
  readonly m: number;
  /** Columns. */
  readonly n: number;
  /** Names of the batch indices. */
  readonly batch: readonly string[];
  /** The shader, which has a function `store` for four neighbouring columns. */
  readonly shader: Shader;
}

/** The code of one workgroup, which computes a tile of `rows` by `columns`. */
export interface Tile {
  /** Rows. */
  readonly rows: number;
  /** Columns. */
  readonly columns: number;
  /** Invocations. */
  readonly lanes: number;
  /** Code that sees the batch indices and `row` and `column` of the tile's corner. */
  readonly body: string;
}

/** The call that stores four neighbouring columns, of which some may lie outside. */
export function storeText(
  { batch }: Product,
  row: string,
  column: string,
  value: string,
): string {
  return `store(${[...batch, row, column, value].join(", ")});`;
}

/** The least power of two that is not below x, at least 1. */
export function powerOfTwo(x: number): number {
  let p = 1;
  while (p < x) p *= 2;
  return p;
}
