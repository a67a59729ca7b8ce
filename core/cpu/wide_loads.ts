/**
 * Loads of floats that memory may hold as halves.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { isHalf } from "../half.ts";
import type { Pointer } from "./assembler.ts";
import { widen, widenEight } from "./half.ts";
import type { Lanes, Vec } from "./lanes.ts";
import type { Packed } from "./packing.ts";
import { v128 } from "./opcodes.ts";

/** The floats of 16 bytes at an address plus `offset`: four, or eight that were halves. */
export function loadLine(
  v: Lanes,
  dtype: Packed,
  at: Pointer,
  offset: number,
): readonly Vec[] {
  v.code.get(at).memory(v128.load, offset);
  return isHalf(dtype) ? widenEight(v, v.pop(), dtype) : [v.pop()];
}

/** Four neighbours. */
export function loadFour(
  v: Lanes,
  dtype: Packed,
  at: Pointer,
  offset: number,
): Vec {
  v.code.get(at).memory(isHalf(dtype) ? v128.load16x4U : v128.load, offset);
  return isHalf(dtype) ? widen(v, v.pop(), dtype) : v.pop();
}

/** One element in the first lane, beside zeros. */
export function loadLone(
  v: Lanes,
  dtype: Packed,
  at: Pointer,
  offset: number,
): Vec {
  v.code.get(at);
  if (!isHalf(dtype)) {
    v.code.memory(v128.load32Zero, offset);
    return v.pop();
  }
  v.code.get(v.integer(0).local).memory(v128.load16Lane, offset, 0);
  return widen(v, v.pop(), dtype);
}
