/**
 * Lowered programs: kernels over numbered values that have no places yet.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Type } from "../shape.ts";
import type { Loop, SimpleKernel } from "./kernel.ts";
import type { Bindings } from "./reach.ts";

/** A buffer of a program: one of its inputs, or what kernels compute. */
export interface Value extends Type {
  /** Number of elements. */
  readonly size: number;
}

/** A graph as kernels, whose buffers are numbers of values. The inputs are the first values. */
export interface Lowered {
  /** All buffers. */
  readonly values: readonly Value[];
  /** The work, in order. */
  readonly kernels: readonly SimpleKernel[];
  /** For each kernel, which axis of the space that it came from each loop is. */
  readonly axes: readonly (readonly number[])[];
  /** Ranges of kernels that repeat; outer before inner loops. */
  readonly loops: readonly Loop[];
  /** The value of each output of the graph. */
  readonly outputs: readonly number[];
}

/** A program that is being made of graphs. */
export interface Program {
  /** What a kernel may reach. */
  readonly limits: Bindings;
  /** All buffers so far. */
  readonly values: Value[];
  /** The work so far. */
  readonly kernels: SimpleKernel[];
  /** The axes of each kernel so far. */
  readonly axes: (readonly number[])[];
  /** The loops so far, inner before outer ones. */
  readonly loops: Loop[];
}
