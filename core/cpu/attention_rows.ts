/**
 * Rows of scores in scratch memory: which of their keys a query sees.
 *
 * Letters: T time, S source time.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Strided } from "../plan/kernel.ts";
import {
  addressOf,
  BEHIND,
  type Sight,
  type Sizes,
  type Unit,
} from "./attention_blocks.ts";
import type {
  Block,
  Bound,
  FunctionBuilder,
  Local,
  Pointer,
  Range,
} from "./assembler.ts";
import type { Lanes, Vec } from "./lanes.ts";
import { f32x4, i32, i32x4, select, v128 } from "./opcodes.ts";
import { PANEL } from "./packing.ts";

/** Which keys a mask shows: none before the first, none from the end on. */
export interface Shown {
  readonly first: Local;
  readonly end: Local;
}

/** The keys that some query of a block sees, or one that none does; they begin with a panel. */
export function keysOf(
  code: FunctionBuilder,
  { S }: Sizes,
  { causal, position, window }: Sight,
  { from, to }: Block,
  shown: Shown | null,
): Range {
  if (!causal && !shown) return { from: 0, to: S };
  const [start, end] = code.locals(2);
  code.push(shown ? { local: shown.end } : S).set(end);
  code.push(shown ? { local: shown.first } : 0).set(start);
  const reach = code.local();
  if (causal) {
    code.push(to).push(position).op(i32.add).set(reach);
    pick(code, end, i32.ltS, { local: reach });
  }
  // Queries that are all blind have a panel of keys nevertheless.
  pick(code, end, i32.gtS, 1);
  const isWindow = causal && window < Infinity;
  if (!shown && !isWindow) return { from: 0, to: { local: end } };
  if (isWindow) {
    code.push(from).push(position).op(i32.add).const(1 - window).op(i32.add);
    code.set(reach);
    pick(code, start, i32.gtS, { local: reach });
  }
  const last = code.local();
  code.get(end).const(1).op(i32.sub).set(last);
  pick(code, start, i32.ltS, { local: last });
  code.get(start).const(-PANEL).op(i32.and).set(start);
  return { from: { local: start }, to: { local: end } };
}

/** Keeps in a local itself or a bound: itself where the comparison holds. */
export function pick(
  code: FunctionBuilder,
  x: Local,
  comparison: number,
  bound: Bound,
): void {
  code.get(x).push(bound).get(x).push(bound).op(comparison).op(select).set(x);
}

/** Vectors of a row that are turned into weights together. */
export const TOGETHER = 2;

/** The part of a row that a query sees, in bytes: whole groups of vectors from `first` to `end`. */
export interface Seen {
  readonly first: Local;
  readonly end: Local;
}

/**
 * The part of a row of scores with a block of keys that the query at `time` sees. What is hidden of its first and last
 * group of vectors becomes -∞.
 */
export function seenOf(
  v: Lanes,
  { causal, position, window }: Sight,
  row: Pointer,
  time: Local,
  keys: Block,
): Seen {
  const { code } = v;
  const [first, end] = code.locals(2);
  code.push(keys.size).set(end).const(0).set(first);
  if (causal) {
    const reach = code.local();
    code.get(time).push(position).op(i32.add).const(1).op(i32.add);
    code.push(keys.from).op(i32.sub).set(reach);
    pick(code, end, i32.ltS, { local: reach });
    pick(code, end, i32.gtS, 0);
    if (window < Infinity) {
      code.get(reach).const(window).op(i32.sub).set(first);
      pick(code, first, i32.gtS, 0);
      pick(code, first, i32.ltS, { local: end });
    }
  }
  const group = 4 * TOGETHER, part = code.local();
  /** Has an edge begin a group: what is seen of the one that it cuts lies below it, or from it on. */
  const hide = (edge: Local, isEnd: boolean): void => {
    code.get(edge).const(group - 1).op(i32.and).tee(part).if(() =>
      code.scope(() => {
        const vector = code.pointer(), count = v.splat(part);
        code.get(row, edge).const(-group).op(i32.and).const(4).op(i32.mul);
        code.plus().set(vector);
        for (let i = 0; i < group; i += 4) {
          code.get(vector).get(vector).memory(v128.load, 4 * i);
          const scores = v.pop();
          const lanes = v.integer(i, i + 1, i + 2, i + 3);
          const below = v.i32(i32x4.gtS, count, lanes);
          const shown = isEnd
            ? v.select(below, scores, -Infinity)
            : v.select(below, -Infinity, scores);
          code.get(shown.local).memory(v128.store, 4 * i);
        }
      })
    );
    code.get(edge).const(isEnd ? group - 1 : 0).op(i32.add).const(-group);
    code.op(i32.and).const(4).op(i32.mul).set(edge);
  };
  hide(first, false);
  hide(end, true);
  return { first, end };
}

/** Calls `body` with the time of each query of a block, and pointers that move by so many bytes. */
export function eachRow(
  code: FunctionBuilder,
  { from, to }: Block,
  walks: readonly (readonly [start: Pointer, bytes: number])[],
  body: (time: Local, pointers: readonly Pointer[]) => void,
): void {
  code.scope(() => {
    const time = code.local(), pointers = code.pointers(walks.length);
    code.push(from).set(time);
    walks.forEach(([start], i) => code.get(start).set(pointers[i]!));
    code.doWhile(() => {
      code.scope(() => body(time, pointers));
      walks.forEach(([, bytes], i) => code.increment(pointers[i]!, bytes));
      code.increment(time, 1);
    }, () => code.get(time).push(to).op(i32.ltS));
  });
}

/** Sets to zero what is hidden of a causal row before what is seen, and as much behind that as a strip may see more. */
export function hideRest(
  v: Lanes,
  { window }: Sight,
  row: Pointer,
  { first, end }: Seen,
): void {
  if (window < Infinity) clear(v, row, 0, { local: first });
  const zero = v.float(0);
  for (let offset = 0; offset < 4 * BEHIND; offset += 16) {
    v.code.get(row, end).plus().get(zero.local);
    v.code.memory(v128.store, offset);
  }
}

/** Sets a part of a row to zeros, vector by vector. */
export function clear(v: Lanes, row: Pointer, from: Bound, to: Bound): void {
  const { code } = v;
  const zero = v.float(0);
  eachVector(v, [row], from, to, ([p]) => {
    code.get(p!, zero.local).memory(v128.store);
  });
}

/** Calls `body` for vectors of rows, so many in turn, with pointers that go through them, from bytes to bytes. */
export function eachVector(
  { code }: Lanes,
  rows: readonly Pointer[],
  from: Bound,
  to: Bound,
  body: (pointers: readonly Pointer[], turn: number) => void,
  turns = 1,
): void {
  code.scope(() => {
    const end = code.pointer(), pointers = code.pointers(rows.length);
    rows.forEach((row, i) => code.get(row).push(from).plus().set(pointers[i]!));
    code.get(rows[0]!).push(to).plus().set(end);
    const isLeft = () => code.isBelow(pointers[0]!, end);
    code.while(isLeft, () => {
      for (let i = 0; i < turns; i++) code.scope(() => body(pointers, i));
      pointers.forEach((p) => code.increment(p, 16 * turns));
    });
  });
}

/** Writes a mask as words, all ones where a key is seen, behind one another. */
export function copyMask(
  { code }: Lanes,
  { S, source }: Sizes,
  mask: Strided,
  unit: Unit,
  to: Pointer,
): Shown {
  const [first, end] = code.locals(2);
  code.const(S).set(first).const(0).set(end);
  code.scope(() => {
    const from = addressOf(code, mask, unit);
    const at = code.pointer(), [key, isSeen] = code.locals(2);
    code.get(to).set(at).const(0).set(key);
    const next = (word: () => void): void => {
      code.get(at);
      word();
      code.memory(i32.store).increment(at, 4);
    };
    code.doWhile(() => {
      next(() =>
        code.const(0).get(from).memory(i32.load).tee(isSeen).op(i32.sub)
      );
      code.get(isSeen).if(() => {
        pick(code, first, i32.ltS, { local: key });
        code.get(key).const(1).op(i32.add).set(end);
      });
      code.increment(from, 4 * mask.view.strides.at(-1)!).increment(key, 1);
    }, () => code.get(key).const(S).op(i32.ltS));
    for (let i = S; i < source; i++) next(() => code.const(0));
  });
  return { first, end };
}

/** Stores `size` floats of a row times a number, the last of them one by one. */
export function storeRow(
  v: Lanes,
  size: number,
  row: Pointer,
  to: Pointer,
  factor: Vec | null,
): void {
  const { code } = v;
  const whole = size - size % 4;
  const load = (from: Pointer, offset = 0): Vec => {
    code.get(from).memory(v128.load, offset);
    const x = v.pop();
    return factor ? v.f32(f32x4.mul, x, factor) : x;
  };
  eachVector(v, [row, to], 0, 4 * whole, ([from, into]) => {
    code.get(into!, load(from!).local).memory(v128.store);
  });
  if (whole === size) return;
  code.scope(() => {
    const rest = load(row, 4 * whole);
    for (let i = whole; i < size; i++) {
      code.get(to, rest.local).memory(v128.store32Lane, 4 * i, i - whole);
    }
  });
}
