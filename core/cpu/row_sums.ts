/**
 * Products of a few rows with a table whose columns lie side by side: its rows, each times a number, summed.
 *
 * Several rows of the table are read at a time, some rows from one another, so that each is on a page of its own. Sums
 * stay in the first cache.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Pointer } from "./assembler.ts";
import type { Lanes, Vec } from "./lanes.ts";
import { f32x4, i32, v128 } from "./opcodes.ts";
import type { RowBlock } from "./row_product.ts";
import { bytesOf } from "./row_table.ts";
import { lineOf, loadFour, loadLine, loadLone } from "./wide_loads.ts";

/** How many rows of the table are read at a time. */
const STREAMS = 8;

/** How many vectors of each sum stay in registers, by the number of rows. */
const WIDTHS = [4, 4, 2, 2];

/** How many rows they are apart. */
const APART = 16;

/** Rows whose sum joins a total, as rounding makes sums of many worse. */
export const RUN = STREAMS * APART;

/** Emits the sums of a block. Scratch memory holds as much as they. */
export function emitSums(v: Lanes, block: RowBlock): void {
  const { code } = v;
  const { rows, k, x, xRow, table, tableRow, dtype, size } = block;
  const { sums, sumsRow, scratch } = block;
  const bytes = bytesOf(block);
  const [row, xAt, out] = code.pointers(3);
  const pointers = code.pointers(Math.min(k, STREAMS));
  const [offset, left, turns, runs] = code.locals(4);
  const width = WIDTHS[rows - 1]!;
  const isLong = k > RUN;
  const part = isLong ? scratch : sums;

  code.scope(() => {
    code.get(table).set(row).get(x).set(xAt);
    fill();
    if (isLong) {
      code.const(Math.floor(k / RUN)).set(runs);
      code.doWhile(() => {
        addRows(STREAMS, APART);
        settle();
      }, () => code.get(runs).const(1).op(i32.sub).tee(runs));
    }
    const rest = isLong ? k % RUN : k;
    addRows(STREAMS, Math.floor(rest / STREAMS));
    addRows(rest % STREAMS, 1);
    if (isLong && rest > 0) settle();
  });

  /** Calls `emit` for four columns at a time, a few more at the end included. */
  function everywhere(emit: () => void): void {
    code.const(0).set(offset).push(size).set(left);
    code.doWhile(() => {
      code.scope(emit);
      code.increment(offset, 16).increment(left, -4);
    }, () => code.get(left).const(0).op(i32.gtS));
  }

  function place(base: Pointer): void {
    code.get(base, offset).plus();
  }

  function fill(): void {
    const zero = v.float(0);
    everywhere(() => {
      for (let i = 0; i < rows; i++) {
        for (const base of new Set([sums, part])) {
          place(base);
          code.get(zero.local).memory(v128.store, i * sumsRow);
        }
      }
    });
  }

  /** Adds the sums of a run to the totals, and clears them. */
  function settle(): void {
    const zero = v.float(0);
    everywhere(() => {
      for (let i = 0; i < rows; i++) {
        const at = i * sumsRow;
        place(sums);
        place(sums);
        code.memory(v128.load, at);
        place(part);
        code.memory(v128.load, at).op(f32x4.add).memory(v128.store, at);
        place(part);
        code.get(zero.local).memory(v128.store, at);
      }
    });
  }

  /** Adds `streams · apart` rows. */
  function addRows(streams: number, apart: number): void {
    if (streams === 0 || apart === 0) return;
    code.const(apart).set(turns);
    code.doWhile(() => {
      code.scope(() => addOnce(streams, apart));
      code.increment(row, tableRow).increment(xAt, 4);
    }, () => code.get(turns).const(1).op(i32.sub).tee(turns));
    const more = (streams - 1) * apart;
    code.increment(row, more * tableRow).increment(xAt, 4 * more);
  }

  /** Adds a row of each stream. */
  function addOnce(streams: number, apart: number): void {
    const own = pointers.slice(0, streams);
    own.forEach((p, i) => {
      code.get(row).const(i * apart * tableRow).plus().set(p);
    });
    const factor = (i: number, row: number): Vec => {
      code.get(xAt).memory(v128.load32Splat, row * xRow + 4 * apart * i);
      return v.pop();
    };
    const factors = rows === 1 ? own.map((_, i) => factor(i, 0)) : null;
    const columns = (
      count: number,
      load: (p: Pointer) => readonly Vec[],
    ) => {
      code.while(() => code.get(left).const(count).op(i32.geS), () => {
        code.scope(() => {
          const accs: Vec[] = [];
          own.forEach((p, i) => {
            const loaded = load(p);
            for (let row = 0; row < rows; row++) {
              const x = factors?.[i] ?? factor(i, row);
              loaded.forEach((y, c) => {
                const acc = row * loaded.length + c;
                accs[acc] = i === 0
                  ? v.f32(f32x4.mul, x, y)
                  : v.madd(x, y, accs[acc]!);
              });
            }
          });
          accs.forEach((acc, i) => {
            const vectors = accs.length / rows;
            const at = Math.floor(i / vectors) * sumsRow + 16 * (i % vectors);
            code.get(out, out).memory(v128.load, at);
            code.get(acc.local).op(f32x4.add);
            if (count < 4) code.memory(v128.store32Lane, at, 0);
            else code.memory(v128.store, at);
          });
        });
        own.forEach((p) => code.increment(p, bytes * count));
        code.increment(out, 4 * count).increment(left, -count);
      });
    };
    code.get(part).set(out).push(size).set(left);
    columns(4 * width, (p) => {
      const line = lineOf(dtype);
      return Array.from(
        { length: 4 * width / line },
        (_, i) => loadLine(v, dtype, p, bytes * line * i),
      ).flat();
    });
    columns(4, (p) => [loadFour(v, dtype, p, 0)]);
    columns(1, (p) => [loadLone(v, dtype, p, 0)]);
  }
}
