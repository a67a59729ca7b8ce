/**
 * How the elements of a reduction combine, in vectors.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Reduction } from "../plan/kernel.ts";
import type { Lanes, Vec } from "./lanes.ts";
import { f32x4, i32x4, v128 } from "./opcodes.ts";

/** A way to combine, with as many vectors of state as it needs. */
export interface Combiner {
  /** Whether the order of the elements never matters. */
  readonly isExact: boolean;
  /** State before the first element. */
  readonly start: readonly Vec[];
  /** State after one more element. */
  add(state: readonly Vec[], x: Vec): readonly Vec[];
  /** The value of a state. */
  value(state: readonly Vec[]): Vec;
  /** Combines two values. */
  combine(a: Vec, b: Vec): Vec;
}

/** How the elements of a reduction combine. */
export function combinerOf(v: Lanes, { combine, body }: Reduction): Combiner {
  const { dtype } = body;
  if (combine === "max" && dtype === "f32") {
    return {
      isExact: true,
      start: [v.float(-Infinity), v.float(0)],
      // pmax skips a NaN; the second vector remembers it.
      add: ([max, nan], x) => [
        v.f32(f32x4.pmax, max!, x),
        v.f32(v128.or, nan!, v.f32(f32x4.ne, x, x)),
      ],
      value: ([max, nan]) => v.f32(v128.or, max!, nan!),
      combine: (a, b) => v.f32(f32x4.max, a, b),
    };
  }
  const opcode = combine === "sum"
    ? (dtype === "f32" ? f32x4.add : i32x4.add)
    : (dtype === "i32" ? i32x4.maxS : i32x4.maxU);
  const least = combine === "max" && dtype === "i32" ? -(2 ** 31) : 0;
  const both = (a: Vec, b: Vec) => v.i32(opcode, a, b);
  return {
    isExact: dtype !== "f32",
    start: [v.integer(least)],
    add: ([sum], x) => [both(sum!, x)],
    value: ([sum]) => sum!,
    combine: both,
  };
}
