/**
 * Where the expressions and outputs of kernels are in buffers.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { DType } from "../dtype.ts";
import type { Expr, Output, View } from "../plan/kernel.ts";

/** A view of a buffer. */
export interface Place {
  /** Number of the buffer. */
  readonly buffer: number;
  /** Where in it. */
  readonly view: View;
}

/** A view of a buffer of elements of a dtype. */
export interface TypedPlace extends Place {
  /** What it holds. */
  readonly dtype: DType;
}

/** Where outputs are stored. */
export function placesOf(outputs: readonly Output[]): TypedPlace[] {
  return outputs.map(({ buffer, view, expr: { dtype } }) => {
    return { buffer, view, dtype };
  });
}

/** An element that an index picks. */
export type Gather = Extract<Expr, { kind: "gather" }>;
