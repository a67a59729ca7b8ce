/**
 * Fields of words in vector code: bytes and groups of four bits, and the numbers that they stand for.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Expr } from "../plan/kernel.ts";
import type { Pointer } from "./assembler.ts";
import type { Lanes, Vec } from "./lanes.ts";
import { f32x4, i16x8, i32, i32x4, i8x16, v128 } from "./opcodes.ts";
import { type Pointers, QUAD } from "./pointers.ts";

type Unpack = Extract<Expr, { kind: "unpack" }>;

/** Vectors that are unpacked together. */
type Quads = 1 | 2 | 4;

/** What fields stand for: sixteen numbers, or null for the bytes themselves. */
type Levels = readonly number[] | null;

/** The vector of a copy of elements that stand several times. */
export function repeated(
  v: Lanes,
  pointers: Pointers,
  { buffer, view, times, dtype }: Extract<Expr, { kind: "repeat" }>,
  copy: number,
): Vec {
  const { code } = v;
  const push = (lane: number): void => {
    pointers.push(view, copy, lane);
    const shift = Math.log2(times);
    if (Number.isInteger(shift)) code.const(shift).op(i32.shrU);
    else code.const(times).op(i32.divU);
    code.const(2).op(i32.shl).from(buffer as Pointer);
  };
  const isOne = pointers.isAlike(view) ||
    times % QUAD === 0 && pointers.isQuad(view);
  if (isOne) {
    push(0);
    code.memory(v128.load32Splat);
  } else {
    for (const lane of [3, 2, 1, 0]) push(lane);
    code.memory(v128.load32Zero);
    for (const lane of [1, 2, 3]) code.memory(v128.load32Lane, 0, lane);
  }
  const words = v.pop();
  return dtype === "bool" ? v.i32(i32x4.ne, words, 0) : words;
}

/** The vector of a copy of what fields stand for. */
export function unpacked(
  v: Lanes,
  pointers: Pointers,
  { buffer, view, levels }: Unpack,
  copy: number,
): Vec {
  if (pointers.isQuad(view)) {
    pointers.push(view, copy);
    return unpackQuads(v, levels, buffer, 1)[0]!;
  }
  const count = pointers.isAlike(view) ? 1 : QUAD;
  const push = (lane: number) => pointers.push(view, copy, lane);
  return unpackLanes(v, levels, buffer, count, push);
}

/** The same for vectors side by side, which takes less together than one by one; none where it does not. */
export function unpackedAhead(
  v: Lanes,
  pointers: Pointers,
  { buffer, view, levels }: Unpack,
): Vec[] {
  const { phase: { copies } } = pointers;
  const vectors: Vec[] = [];
  while (pointers.isQuad(view) && vectors.length + 2 <= copies) {
    const count = vectors.length + 4 <= copies ? 4 : 2;
    pointers.push(view, vectors.length);
    vectors.push(...unpackQuads(v, levels, buffer, count));
  }
  return vectors;
}

/** Fields of neighbours from a position on the stack of a buffer in a local, four a vector: so many vectors. */
function unpackQuads(
  v: Lanes,
  levels: Levels,
  buffer: number,
  count: Quads,
): Vec[] {
  const { code } = v;
  if (levels) code.const(1).op(i32.shrU);
  code.from(buffer as Pointer);
  const size = levels ? 2 * count : 4 * count;
  if (size === 2) code.memory(i32.load16U).op(i32x4.splat);
  else {
    code.memory(
      size === 4 ? v128.load32Zero : size === 8 ? v128.load64Zero : v128.load,
    );
  }
  const packed = v.pop();
  if (levels) return lookUp(v, levels, nibbles(v, packed), count);
  return widened(v, packed, count).map((x) => v.f32(f32x4.convertS, x));
}

/** The levels that the first eight bytes of a vector count, four a vector. */
export function leveled(
  v: Lanes,
  levels: readonly number[],
  packed: Vec,
): Vec[] {
  return lookUp(v, levels, nibbles(v, packed), 4);
}

/** Bytes as words. */
function widened(v: Lanes, x: Vec, count: Quads): Vec[] {
  const halves = [i16x8.extendLowU, i16x8.extendHighU];
  return halves.slice(0, Math.ceil(count / 2)).flatMap((half) => {
    const wide = v.i32(half, x);
    const low = v.i32(i32x4.extendLowU, wide);
    return count === 1 ? [low] : [low, v.i32(i32x4.extendHighU, wide)];
  });
}

/** The fields at a position in each lane, which `push` pushes; one for all lanes if there is one. */
function unpackLanes(
  v: Lanes,
  levels: Levels,
  buffer: number,
  count: 1 | 4,
  push: (lane: number) => void,
): Vec {
  const { code } = v;
  const field = (lane: number): void => {
    push(lane);
    if (levels) code.const(1).op(i32.shrU);
    code.from(buffer as Pointer).memory(i32.load8U);
    if (!levels) return;
    push(lane);
    code.const(1).op(i32.and).const(2).op(i32.shl).op(i32.shrU);
    code.const(15).op(i32.and);
  };
  field(0);
  code.op(i32x4.splat);
  for (let lane = 1; lane < count; lane++) {
    field(lane);
    code.op(i32x4.replaceLane, lane);
  }
  const fields = v.pop();
  if (!levels) return v.f32(f32x4.convertS, fields);
  const pairs = v.i32(i16x8.narrowU, fields, fields);
  return lookUp(v, levels, v.i32(i8x16.narrowU, pairs, pairs), 1)[0]!;
}

/** Groups of four bits as bytes, the first in the lowest bits. */
function nibbles(v: Lanes, packed: Vec): Vec {
  const mask = 0x0f0f0f0f;
  const low = v.i32(v128.and, packed, mask);
  const high = v.i32(v128.and, v.shift(i16x8.shrU, packed, 4), mask);
  return interleaved(v, low, high, 0, 1);
}

/** The levels that the bytes of a vector count, four a vector: each byte of a level is looked up, then joined. */
function lookUp(
  v: Lanes,
  levels: readonly number[],
  index: Vec,
  count: Quads,
): Vec[] {
  const parts = new Uint8Array(Float32Array.from(levels).buffer);
  const [a, b, c, d] = [0, 1, 2, 3].map((part) => {
    const table = parts.filter((_, i) => i % 4 === part);
    const words = v.integer(...new Int32Array(table.buffer));
    return v.i32(
      v.relaxed ? i8x16.relaxedSwizzle : i8x16.swizzle,
      words,
      index,
    );
  });
  const found: Vec[] = [];
  for (let from = 0; found.length < count; from += 8) {
    const low = interleaved(v, a!, b!, from, 1);
    const high = interleaved(v, c!, d!, from, 1);
    found.push(interleaved(v, low, high, 0, 2));
    if (count > 1) found.push(interleaved(v, low, high, 8, 2));
  }
  return found;
}

/** Eight bytes from one on of each of two vectors, in runs by turns. */
function interleaved(
  v: Lanes,
  a: Vec,
  b: Vec,
  from: number,
  run: number,
): Vec {
  const picked = Array.from({ length: 16 }, (_, i) => {
    const other = 16 * (Math.floor(i / run) % 2);
    return from + other + run * Math.floor(i / (2 * run)) + i % run;
  });
  v.code.get(a.local, b.local).op(v128.shuffle, ...picked);
  return v.pop();
}
