/**
 * Products of a few rows with a table whose inner axis is contiguous: dot products with one row of the table after
 * another.
 *
 * Several rows of the table are read at a time, far from one another, so that each is on a page of its own and its
 * successor follows it in memory: a processor fetches ahead along each of them.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Pointer } from "./assembler.ts";
import type { Lanes, Vec } from "./lanes.ts";
import { f32x4, i32, v128 } from "./opcodes.ts";
import type { RowBlock } from "./row_product.ts";
import { bytesOf, LINE } from "./row_table.ts";
import { leveled } from "./unpack.ts";
import { lineOf, loadFour, loadLine, loadLone } from "./wide_loads.ts";

/** How many rows of the table are read at a time, by how many rows they meet: their sums fit the registers. */
const STREAMS = [8, 4, 3, 2];

/** Elements that are summed before their sum joins a total, as rounding makes sums of many worse. */
const RUN = 128;

/** Loads of a line in an iteration. */
const UNROLL = 4;

/** Bytes of scratch memory that are needed. */
export const DOTS_SCRATCH = 16 * 8;

/** Emits the dot products of a block. */
export function emitDots(v: Lanes, block: RowBlock): void {
  const { code } = v;
  const { rows, k, x, xRow, table, tableRow, dtype, blocks, size } = block;
  const { sums, sumsRow, scratch } = block;
  // Beside the sums and elements of three rows and more there are registers for one vector of the table.
  const isNarrow = rows > 2 && dtype !== "f16";
  const bytes = bytesOf(block);
  const perLine = blocks ? LINE : isNarrow ? 4 : lineOf(dtype);
  const [out, at, xAt] = code.pointers(3);
  const [done, apart, left, runs] = code.locals(4);
  // Groups of four bits take more registers.
  const most = STREAMS[rows - 1]! / (blocks ? 2 : 1);
  const pointers = code.pointers(most);
  const scales = code.pointers(blocks ? most : 0);
  const run = blocks ? blocks.times : RUN;

  code.scope(() => {
    code.const(0).set(done);
    walk(pointers, scales);
    walk(pointers.slice(0, 1), scales.slice(0, 1));
  });

  /** All rows that are left, but for those that are too few to be a stream each. */
  function walk(
    streams: readonly Pointer[],
    scales: readonly Pointer[],
  ): void {
    const address = (first: Pointer, step: number) =>
      code.get(first).get(done).const(step).op(i32.mul).plus();
    code.push(size).get(done).op(i32.sub).const(streams.length).op(i32.divU);
    code.set(apart);
    const place = (list: readonly Pointer[], first: Pointer, step: number) =>
      list.forEach((pointer, i) => {
        if (i === 0) address(first, step);
        else code.get(list[i - 1]!, apart).const(step).op(i32.mul).plus();
        code.set(pointer);
      });
    place(streams, table, tableRow);
    if (blocks) place(scales, blocks.scales, blocks.scalesRow);
    address(sums, 4);
    code.set(out).get(apart).set(left);
    code.while(() => code.get(left), () => {
      code.scope(() => {
        const found = folded(v, dots(streams, scales));
        code.get(out).set(at);
        streams.forEach((_, i) => {
          for (let row = 0; row < rows; row++) {
            const { vec, lane } = found[i * rows + row]!;
            code.get(at, vec.local);
            code.memory(v128.store32Lane, row * sumsRow, lane);
          }
          code.get(at, apart).const(2).op(i32.shl).plus().set(at);
        });
      });
      streams.forEach((p) => code.increment(p, tableRow - bytes * k));
      if (blocks) {
        const rest = blocks.scalesRow - 4 * k / run;
        scales.forEach((scale) => code.increment(scale, rest));
      }
      code.increment(out, 4).increment(left, -1);
    });
    code.get(done, apart).const(streams.length).op(i32.mul).op(i32.add);
    code.set(done);
  }

  /** Sums in four lanes each: of each stream with each row. Pointers move on to the ends of rows. */
  function dots(
    streams: readonly Pointer[],
    scales: readonly Pointer[],
  ): Vec[] {
    const accs = streams.flatMap(() =>
      Array.from({ length: rows }, () => v.variable())
    );
    const clear = () => accs.forEach((acc) => v.assign(acc, 0));
    clear();
    code.get(x).set(xAt);
    const count = k <= run && !blocks ? 0 : Math.floor(k / run);
    if (count > 0) {
      accs.forEach((acc, i) =>
        code.get(scratch, acc.local).memory(v128.store, 16 * i)
      );
      code.const(count).set(runs);
      code.doWhile(() => {
        elements(streams, accs, run);
        accs.forEach((acc, i) =>
          code.scope(() => {
            const total = withTotal(acc, i, scales[Math.floor(i / rows)]);
            code.get(scratch, total.local).memory(v128.store, 16 * i);
          })
        );
        scales.forEach((scale) => code.increment(scale, 4));
        clear();
      }, () => code.get(runs).const(1).op(i32.sub).tee(runs));
    }
    elements(streams, accs, k - count * run);
    return count > 0 ? accs.map((acc, i) => withTotal(acc, i)) : accs;
  }

  function withTotal(acc: Vec, i: number, scale?: Pointer): Vec {
    if (scale !== undefined) {
      code.get(scale).memory(v128.load32Splat);
      const factor = v.pop();
      code.get(scratch).memory(v128.load, 16 * i);
      return v.madd(acc, factor, v.pop());
    }
    code.get(acc.local, scratch).memory(v128.load, 16 * i).op(f32x4.add);
    return v.pop();
  }

  function elements(
    streams: readonly Pointer[],
    accs: readonly Vec[],
    count: number,
  ): void {
    const advance = (by: number) => {
      streams.forEach((p) => code.increment(p, bytes * by));
      code.increment(xAt, 4 * by);
    };
    const lines = (count: number) => {
      for (let i = 0; i < count; i++) line(streams, accs, i);
      advance(count * perLine);
    };
    const step = UNROLL * perLine, steps = Math.floor(count / step);
    if (steps === 1) lines(UNROLL);
    if (steps > 1) {
      code.scope(() => {
        const left = code.local();
        code.const(steps).set(left);
        code.doWhile(
          () => lines(UNROLL),
          () => code.get(left).const(1).op(i32.sub).tee(left),
        );
      });
    }
    lines(Math.floor(count % step / perLine));
    const lone = count % perLine;
    for (let i = 0; i < lone; i++) {
      code.scope(() => {
        const xs = rowsOf((offset) => loadLone(v, "f32", xAt, offset + 4 * i));
        streams.forEach((p, s) =>
          code.scope(() => {
            meet(accs, s, xs, loadLone(v, dtype, p, bytes * i));
          })
        );
      });
    }
    advance(lone);
  }

  /** A line of each stream. */
  function line(
    streams: readonly Pointer[],
    accs: readonly Vec[],
    at: number,
  ): void {
    code.scope(() => {
      const xs = Array.from(
        { length: perLine / 4 },
        (_, part) =>
          rowsOf((offset) => {
            code.get(xAt).memory(
              v128.load,
              offset + 4 * perLine * at + 16 * part,
            );
            return v.pop();
          }),
      );
      streams.forEach((p, s) =>
        code.scope(() =>
          fours(p, bytes * perLine * at).forEach((four, part) =>
            meet(accs, s, xs[part]!, four)
          )
        )
      );
    });
  }

  function fours(at: Pointer, offset: number): readonly Vec[] {
    if (blocks) {
      code.get(at).memory(v128.load64Zero, offset);
      return leveled(v, blocks.levels, v.pop());
    }
    return isNarrow
      ? [loadFour(v, dtype, at, offset)]
      : loadLine(v, dtype, at, offset);
  }

  function rowsOf(load: (offset: number) => Vec): Vec[] {
    return Array.from({ length: rows }, (_, row) => load(row * xRow));
  }

  function meet(
    accs: readonly Vec[],
    stream: number,
    xs: readonly Vec[],
    y: Vec,
  ): void {
    xs.forEach((x, row) => {
      const acc = accs[stream * rows + row]!;
      code.scope(() => v.assign(acc, v.madd(x, y, acc)));
    });
  }
}

/** Where the sum of the lanes of each vector is. Four vectors are transposed; one alone gives the same bits. */
function folded(
  v: Lanes,
  vecs: readonly Vec[],
): { readonly vec: Vec; readonly lane: number }[] {
  const add = (a: Vec, b: Vec) => v.f32(f32x4.add, a, b);
  const out: { vec: Vec; lane: number }[] = [];
  let i = 0;
  for (; i + 4 <= vecs.length; i += 4) {
    const [a, b, c, d] = vecs.slice(i, i + 4) as [Vec, Vec, Vec, Vec];
    const pairs = (a: Vec, b: Vec) =>
      add(v.shuffle(a, b, [0, 4, 1, 5]), v.shuffle(a, b, [2, 6, 3, 7]));
    const [ab, cd] = [pairs(a, b), pairs(c, d)];
    const vec = add(
      v.shuffle(ab, cd, [0, 1, 4, 5]),
      v.shuffle(ab, cd, [2, 3, 6, 7]),
    );
    out.push(...[0, 1, 2, 3].map((lane) => ({ vec, lane })));
  }
  for (; i < vecs.length; i++) {
    out.push({ vec: v.fold(vecs[i]!, add), lane: 0 });
  }
  return out;
}
