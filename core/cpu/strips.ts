/**
 * Products of strips of a left operand with the panels of a right one: c = a·b, or c += a·b unless `isFirst`.
 *
 * The sums of a strip with a panel stay in registers. A panel that reaches beyond the right edge goes through a tile.
 * All strides count bytes; rows of a panel are `kStride` apart, panels `panelStride`.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  type AddressBits,
  type Bound,
  type FunctionCode,
  functionOf,
} from "./assembler.ts";
import { Lanes } from "./lanes.ts";
import { f32x4, i32, v128 } from "./opcodes.ts";
import { PANEL } from "./packing.ts";

/** Bytes of the tile. */
export const TILE_BYTES = 256;

/**
 * Rows of a strip: its sums, a panel's row, four elements and one of them in all lanes fill 14 registers of 15; without
 * fused multiply-add a product takes the last.
 */
export const STRIP = 5;

/** Rows of so many whose elements are loaded four at a time: registers are left for that. */
function wideRows(rows: number): number {
  return Math.min(rows, 2 * (STRIP + 1 - rows));
}

/** Steps along the inner size in an iteration. */
const STEPS = 8;

/** Most of the inner size in a block. A longer one is hardly faster, and loses more to rounding. */
const K_BLOCK = 128;

/** The inner size of a block of a product: all are of about one size, whole steps. */
export function innerBlock(k: number): number {
  return STEPS * Math.ceil(k / Math.ceil(k / K_BLOCK) / STEPS);
}

/**
 * `(a, aStride, b, kStride, panelStride, c, cStride, n, k, isFirst, tile)`: `rows` rows of the product. With order
 * "rows" those of `a` are contiguous and `aStride` apart; else its columns are.
 */
export function strip(
  rows: number,
  order: "rows" | "columns",
  relaxed: boolean,
  bits: AddressBits,
): FunctionCode {
  const { code, parameters } = functionOf(bits, "aiaiiaiiiia");
  const [a, aStride, b, kStride, panelStride, c, cStride, n, k, isFirst, tile] =
    parameters;
  const v = new Lanes(code, relaxed);
  const sums = Array.from(
    { length: rows },
    () => [v.variable(), v.variable()],
  );
  const row = [v.variable(), v.variable()], element = v.variable();
  // Engines that check each address spend more on a load than on a shuffle. A sum that is not fused needs the register.
  const isByRows = order === "rows";
  const wide = isByRows ? wideRows(rows) : rows >= 4 ? 1 : 0;
  const fours = Array.from({ length: relaxed ? wide : 0 }, () => v.variable());
  const pointers = code.pointers(isByRows ? rows : 1);
  const [panel, to] = code.pointers(2), left = code.local();
  const zero = v.float(0);

  /** A step; of several its rows' elements are loaded together. */
  const step = (u: number, isOfSeveral: boolean) => {
    row.forEach((x, j) =>
      code.get(panel).memory(v128.load, 16 * j).set(x.local)
    );
    code.add(panel, kStride);
    if (!isByRows || isOfSeveral && u % 4 === 0) {
      fours.forEach((x, i) =>
        code.get(pointers[i]!).memory(v128.load, isByRows ? 4 * u : 0)
          .set(x.local)
      );
    }
    sums.forEach((pair, i) => {
      const lane = isByRows ? u % 4 : i;
      const four = isByRows ? isOfSeveral && fours[i] : i < 4 && fours[0];
      if (four) {
        code.scope(() =>
          v.assign(element, v.shuffle(four, four, [lane, lane, lane, lane]))
        );
      } else {
        code.get(pointers[isByRows ? i : 0]!);
        code.memory(v128.load32Splat, 4 * (isByRows ? u : i));
        code.set(element.local);
      }
      pair.forEach((sum, j) =>
        code.scope(() => v.assign(sum, v.madd(element, row[j]!, sum)))
      );
    });
    if (!isByRows) code.add(pointers[0]!, aStride);
  };
  const steps = (count: number) =>
    code.while(() => code.get(left).const(count).op(i32.geS), () => {
      for (let u = 0; u < count; u++) step(u, count > 1);
      if (isByRows) {
        pointers.forEach((p) => code.increment(p, 4 * count));
      }
      code.increment(left, -count);
    });
  const storeRows = (stride: Bound, accumulate: boolean) =>
    sums.forEach((pair, i) => {
      pair.forEach((sum, j) => {
        code.get(to);
        if (accumulate) code.get(to).memory(v128.load, 16 * j);
        code.get(sum.local);
        if (accumulate) code.op(f32x4.add);
        code.memory(v128.store, 16 * j);
      });
      if (i < rows - 1) {
        code.get(to).push(stride).plus().set(to);
      }
    });

  code.doWhile(() => {
    sums.flat().forEach((sum) => v.assign(sum, zero));
    pointers.forEach((p, i) => {
      code.get(i === 0 ? a : pointers[i - 1]!);
      if (i > 0) code.get(aStride).plus();
      code.set(p);
    });
    code.get(b).set(panel).get(k).set(left);
    steps(STEPS);
    steps(1);
    code.get(n).const(PANEL).op(i32.geS).if(() => {
      code.get(c).set(to).get(isFirst);
      code.if(
        () => storeRows({ local: cStride }, false),
        () => storeRows({ local: cStride }, true),
      );
    }, () => {
      code.get(tile).set(to);
      storeRows(4 * PANEL, false);
      copyEdge();
    });
    code.add(b, panelStride);
    code.increment(c, 4 * PANEL).increment(n, -PANEL);
  }, () => code.get(n).const(0).op(i32.gtS));
  return code.finish();

  /** Copies or adds `n` columns of the tile. */
  function copyEdge(): void {
    const [from, at] = code.pointers(2);
    for (let i = 0; i < rows; i++) {
      code.get(tile).const(4 * PANEL * i).plus().set(from);
      code.get(c).get(cStride).const(i).op(i32.mul).plus().set(at);
      code.get(n).set(left);
      code.doWhile(() => {
        code.get(from).memory(v128.load32Zero).set(element.local);
        code.get(isFirst).op(i32.eqz).if(() => {
          code.get(at).memory(v128.load32Zero).get(element.local);
          code.op(f32x4.add).set(element.local);
        });
        code.get(at, element.local).memory(v128.store32Lane, 0, 0);
        code.increment(from, 4).increment(at, 4).increment(left, -1);
      }, () => code.get(left));
    }
  }
}

/**
 * `(a, aStride, aStep, b, kStride, panelStride, c, cStride, m, n, k, isFirst, tile)`: all strips of a block, `aStep`
 * bytes apart. Those of i rows are for function `first + i - 1`.
 */
export function allStrips(first: number, bits: AddressBits): FunctionCode {
  const { code, parameters } = functionOf(bits, "aiiaiiaiiiiia");
  const [a, aStride, aStep, b, kStride, panelStride, c, cStride, m, ...rest] =
    parameters;
  const call = (rows: number) => {
    code.get(a, aStride, b, kStride, panelStride, c, cStride, ...rest);
    code.call(first + rows - 1);
  };
  code.while(() => code.get(m).const(STRIP).op(i32.geS), () => {
    call(STRIP);
    code.add(a, aStep);
    code.get(c, cStride).const(STRIP).op(i32.mul).plus().set(c);
    code.increment(m, -STRIP);
  });
  for (let rows = 1; rows < STRIP; rows++) {
    code.get(m).const(rows).op(i32.eq).if(() => call(rows));
  }
  return code.finish();
}
