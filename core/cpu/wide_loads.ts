/**
 * Loads of floats that memory may hold as halves, or as bytes.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { isHalf } from "../half.ts";
import type { Pointer } from "./assembler.ts";
import { interleaved, widen, widenEight } from "./half.ts";
import type { Lanes, Vec } from "./lanes.ts";
import { f32x4, i16x8, i32, i32x4, v128 } from "./opcodes.ts";
import type { Held } from "./row_table.ts";

/** What is added to bytes. */
const MIDDLE = 128;

/** Elements of a line: what one load brings. */
export function lineOf(dtype: Held): number {
  return dtype === "f32" ? 4 : 8;
}

/** The floats of a line at an address plus `offset`, four a vector. */
export function loadLine(
  v: Lanes,
  dtype: Held,
  at: Pointer,
  offset: number,
): readonly Vec[] {
  const isBytes = dtype === "bytes";
  v.code.get(at).memory(isBytes ? v128.load8x8U : v128.load, offset);
  if (isBytes) return integers(v, v.pop());
  return isHalf(dtype) ? widenEight(v, v.pop(), dtype) : [v.pop()];
}

/** Four neighbours. */
export function loadFour(
  v: Lanes,
  dtype: Held,
  at: Pointer,
  offset: number,
): Vec {
  v.code.get(at);
  if (dtype === "bytes") {
    v.code.memory(v128.load32Zero, offset).op(i16x8.extendLowU);
    return integers(v, v.pop())[0];
  }
  v.code.memory(isHalf(dtype) ? v128.load16x4U : v128.load, offset);
  return isHalf(dtype) ? widen(v, v.pop(), dtype) : v.pop();
}

/** One element in the first lane; those beside it are finite. */
export function loadLone(
  v: Lanes,
  dtype: Held,
  at: Pointer,
  offset: number,
): Vec {
  v.code.get(at);
  if (dtype === "bytes") {
    v.code.memory(i32.load8U, offset).const(MIDDLE).op(i32.sub);
    v.code.op(i32x4.splat).op(f32x4.convertS);
    return v.pop();
  }
  if (!isHalf(dtype)) {
    v.code.memory(v128.load32Zero, offset);
    return v.pop();
  }
  v.code.get(v.integer(0).local).memory(v128.load16Lane, offset, 0);
  return widen(v, v.pop(), dtype);
}

/** The floats of bytes in words of 16 bits: of the first four, and of the others. */
function integers(v: Lanes, words: Vec): [Vec, Vec] {
  // Below the upper half of 2²³ a word is the last bits of a float.
  const upper = v.integer(0x4b004b00);
  const [a, b] = interleaved(v, words, upper);
  const less = (x: Vec) => v.f32(f32x4.sub, x, 2 ** 23 + MIDDLE);
  return [less(a), less(b)];
}
