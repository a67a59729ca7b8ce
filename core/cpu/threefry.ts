/**
 * Threefry-2x32 with 20 rounds in vector code; see `core/threefry.ts`.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { PARITY, ROTATIONS } from "../threefry.ts";
import type { Lanes, Vec } from "./lanes.ts";
import { i32x4, v128 } from "./opcodes.ts";

/** Word i mod 2 of the block of counter [i div 2, stream] under a key. */
export function threefry(
  v: Lanes,
  key0: Vec,
  key1: Vec,
  i: Vec,
  stream: Vec,
): Vec {
  const parity = v.i32(v128.xor, v.i32(v128.xor, key0, key1), PARITY);
  const keys = [key0, key1, parity];
  let x = v.i32(i32x4.add, v.shift(i32x4.shrU, i, 1), key0);
  let y = v.i32(i32x4.add, stream, key1);
  for (let round = 0; round < 20; round++) {
    const rotation = ROTATIONS[round % 8]!;
    x = v.i32(i32x4.add, x, y);
    const left = v.shift(i32x4.shl, y, rotation);
    const right = v.shift(i32x4.shrU, y, 32 - rotation);
    y = v.i32(v128.xor, v.i32(v128.or, left, right), x);
    const group = (round + 1) / 4;
    if (!Number.isInteger(group)) continue;
    x = v.i32(i32x4.add, x, keys[group % 3]!);
    const next = v.i32(i32x4.add, keys[(group + 1) % 3]!, group);
    y = v.i32(i32x4.add, y, next);
  }
  const odd = v.i32(i32x4.ne, v.i32(v128.and, i, 1), 0);
  return v.select(odd, y, x);
}
