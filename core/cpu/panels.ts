/**
 * The functions that all matrix products share: packing of the right operand into panels of eight columns, and the
 * products of a strip of rows with such panels, whose results stay in registers.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  FunctionBuilder,
  type FunctionCode,
  type Local,
  valueType,
} from "./assembler.ts";
import { Lanes, type Vec } from "./lanes.ts";
import { f32x4, i32, v128 } from "./opcodes.ts";

/** Columns of a panel. */
export const PANEL = 8;

/** Bytes of the tile that results at the right edge go through. */
export const TILE_BYTES = 256;

/** Rows of a strip: accumulators, a panel's row and an element fill 15 registers; without fused multiply-add, a product too. */
export function stripRows(relaxed: boolean): number {
  return relaxed ? 6 : 5;
}

/** Numbers of the shared functions in a module. */
export interface Shared {
  /** `(source, kStride, nStride, to, k, n, width)`: panels of `width` columns, zeros where there are none. */
  readonly pack: number;
  /** `(source, kStride, to, k, n)`: panels of a matrix with contiguous rows. */
  readonly packRows: number;
  /** `(source, nStride, to, k, n)`: panels of a matrix with contiguous columns. */
  readonly packColumns: number;
  /**
   * `(a, aStride, aStep, b, kStride, panelStride, c, cStride, m, n, k, isFirst, tile)`: c = a·b, or c += a·b. Rows of
   * `a` are contiguous and `aStride` apart, strips `aStep`; rows of panels of `b` are `kStride` apart, panels
   * `panelStride`. All strides count bytes.
   */
  readonly rows: number;
  /** The same where the columns of `a` are contiguous and `aStride` apart. */
  readonly columns: number;
}

/** The numbers of the shared functions, which come first in a module. */
export function sharedNumbers(relaxed: boolean): Shared {
  const strips = stripRows(relaxed);
  return {
    pack: 0,
    packRows: 1,
    packColumns: 2,
    rows: 3 + 2 * strips,
    columns: 4 + 2 * strips,
  };
}

/** The shared functions in the order of their numbers. */
export function sharedFunctions(relaxed: boolean): FunctionCode[] {
  const heights = Array.from({ length: stripRows(relaxed) }, (_, i) => i + 1);
  return [
    pack(),
    packRows(),
    packColumns(),
    ...heights.map((rows) => strip(rows, "rows", relaxed)),
    ...heights.map((rows) => strip(rows, "columns", relaxed)),
    allStrips(heights, 3),
    allStrips(heights, 3 + heights.length),
  ];
}

function pack(): FunctionCode {
  const [source, kStride, nStride, to, k, n, width] = range(7) as Seven;
  const code = new FunctionBuilder(7);
  const [row, at, column, left] = [0, 0, 0, 0].map(() => code.local()) as Four;
  code.while(() => code.get(n).const(0).op(i32.gtS), () => {
    code.get(source).set(row).get(k).set(left);
    code.while(() => code.get(left), () => {
      code.get(row).set(at).const(0).set(column);
      code.doWhile(() => {
        code.get(to).get(column).get(n).op(i32.ltS);
        code.if(
          () => code.get(at).memory(i32.load),
          () => code.const(0),
          valueType.i32,
        );
        code.memory(i32.store);
        add(code, at, nStride);
        code.increment(to, 4).increment(column, 1);
      }, () => code.get(column, width).op(i32.ltS));
      add(code, row, kStride);
      code.increment(left, -1);
    });
    code.get(source, nStride, width).op(i32.mul).op(i32.add).set(source);
    code.get(n, width).op(i32.sub).set(n);
  });
  return code.finish();
}

function packRows(): FunctionCode {
  const [source, kStride, to, k, n] = range(5) as Five;
  const code = new FunctionBuilder(5);
  const [row, left] = [code.local(), code.local()];
  code.while(() => code.get(n).const(PANEL).op(i32.geS), () => {
    code.get(source).set(row).get(k).set(left);
    code.while(() => code.get(left), () => {
      for (const offset of [0, 16]) {
        code.get(to, row).memory(v128.load, offset);
        code.memory(v128.store, offset);
      }
      add(code, row, kStride);
      code.increment(to, 4 * PANEL).increment(left, -1);
    });
    code.increment(source, 4 * PANEL).increment(n, -PANEL);
  });
  code.get(source, kStride).const(4).get(to, k, n).const(PANEL).call(0);
  return code.finish();
}

function packColumns(): FunctionCode {
  const [source, nStride, to, k, n] = range(5) as Five;
  const code = new FunctionBuilder(5);
  const v = new Lanes(code, false);
  const left = code.local();
  const columns = range(PANEL).map(() => code.local());
  code.while(() => code.get(n).const(PANEL).op(i32.geS), () => {
    columns.forEach((column, j) => {
      code.get(j === 0 ? source : columns[j - 1]!);
      if (j > 0) code.get(nStride).op(i32.add);
      code.set(column);
    });
    code.get(k).set(left);
    code.while(() => code.get(left).const(4).op(i32.geS), () => {
      code.scope(() => {
        const loaded = columns.map((column) => {
          code.get(column).memory(v128.load).increment(column, 16);
          return v.pop();
        });
        [0, 4].forEach((j) =>
          transpose(v, loaded.slice(j, j + 4)).forEach((x, i) =>
            code.get(to, x.local).memory(v128.store, 4 * (PANEL * i + j))
          )
        );
      });
      code.increment(to, 16 * PANEL).increment(left, -4);
    });
    code.get(columns[0]!).const(4).get(nStride, to, left);
    code.const(PANEL).const(PANEL).call(0);
    code.get(to, left).const(4 * PANEL).op(i32.mul).op(i32.add).set(to);
    code.get(source, nStride).const(PANEL).op(i32.mul).op(i32.add);
    code.set(source).increment(n, -PANEL);
  });
  code.get(source).const(4).get(nStride, to, k, n).const(PANEL).call(0);
  return code.finish();
}

/** Four vectors as the rows of a matrix, transposed. */
function transpose(v: Lanes, [a, b, c, d]: readonly Vec[]): Vec[] {
  const low = [
    v.shuffle(a!, b!, [0, 4, 1, 5]),
    v.shuffle(c!, d!, [0, 4, 1, 5]),
  ];
  const high = [
    v.shuffle(a!, b!, [2, 6, 3, 7]),
    v.shuffle(c!, d!, [2, 6, 3, 7]),
  ];
  return [low, high].flatMap(([x, y]) => [
    v.shuffle(x!, y!, [0, 1, 4, 5]),
    v.shuffle(x!, y!, [2, 3, 6, 7]),
  ]);
}

/** The product of a strip of `rows` rows with all panels: `(a, aStride, b, kStride, panelStride, c, cStride, n, k, isFirst, tile)`. */
function strip(
  rows: number,
  order: "rows" | "columns",
  relaxed: boolean,
): FunctionCode {
  const code = new FunctionBuilder(11);
  const v = new Lanes(code, relaxed);
  const [a, aStride, b, kStride, panelStride, c, cStride, n, k, isFirst, tile] =
    range(11) as Eleven;
  const sums = range(rows).map(() => [v.variable(), v.variable()]);
  const row = [v.variable(), v.variable()], element = v.variable();
  const pointers = range(order === "rows" ? rows : 1).map(() => code.local());
  const [panel, left, to] = [code.local(), code.local(), code.local()];
  const zero = v.float(0);

  const step = (u: number) => {
    row.forEach((x, j) =>
      code.get(panel).memory(v128.load, 16 * j).set(x.local)
    );
    add(code, panel, kStride);
    sums.forEach((pair, i) => {
      code.get(pointers[order === "rows" ? i : 0]!);
      code.memory(v128.load32Splat, 4 * (order === "rows" ? u : i));
      code.set(element.local);
      pair.forEach((sum, j) =>
        code.scope(() => v.assign(sum, v.madd(element, row[j]!, sum)))
      );
    });
    if (order === "columns") add(code, pointers[0]!, aStride);
  };
  const steps = (count: number) =>
    code.while(() => code.get(left).const(count).op(i32.geS), () => {
      for (let u = 0; u < count; u++) step(u);
      if (order === "rows") {
        pointers.forEach((p) => code.increment(p, 4 * count));
      }
      code.increment(left, -count);
    });
  const storeRows = (stride: Local | number, accumulate: boolean) =>
    sums.forEach((pair, i) => {
      pair.forEach((sum, j) => {
        code.get(to);
        if (accumulate) code.get(to).memory(v128.load, 16 * j);
        code.get(sum.local);
        if (accumulate) code.op(f32x4.add);
        code.memory(v128.store, 16 * j);
      });
      if (i < rows - 1) {
        code.get(to);
        typeof stride === "number" ? code.const(stride) : code.get(stride);
        code.op(i32.add).set(to);
      }
    });

  code.doWhile(() => {
    sums.flat().forEach((sum) => v.assign(sum, zero));
    pointers.forEach((p, i) => {
      code.get(i === 0 ? a : pointers[i - 1]!);
      if (i > 0) code.get(aStride).op(i32.add);
      code.set(p);
    });
    code.get(b).set(panel).get(k).set(left);
    steps(4);
    steps(1);
    code.get(n).const(PANEL).op(i32.geS).if(() => {
      code.get(c).set(to).get(isFirst);
      code.if(() => storeRows(cStride, false), () => storeRows(cStride, true));
    }, () => {
      code.get(tile).set(to);
      storeRows(4 * PANEL, false);
      copyEdge();
    });
    add(code, b, panelStride);
    code.increment(c, 4 * PANEL).increment(n, -PANEL);
  }, () => code.get(n).const(0).op(i32.gtS));
  return code.finish();

  /** Copies or adds `n` columns of the tile. */
  function copyEdge(): void {
    const [from, at] = [code.local(), code.local()];
    for (let i = 0; i < rows; i++) {
      code.get(tile).const(4 * PANEL * i).op(i32.add).set(from);
      code.get(c).get(cStride).const(i).op(i32.mul).op(i32.add).set(at);
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

/** All strips of a block; strips of i rows are function `first + i - 1`. */
function allStrips(heights: readonly number[], first: number): FunctionCode {
  const code = new FunctionBuilder(13);
  const [a, aStride, aStep, b, kStride, panelStride, c, cStride, m, ...rest] =
    range(13) as Thirteen;
  const call = (rows: number) => {
    code.get(a, aStride, b, kStride, panelStride, c, cStride, ...rest);
    code.call(first + rows - 1);
  };
  const most = heights.length;
  code.while(() => code.get(m).const(most).op(i32.geS), () => {
    call(most);
    add(code, a, aStep);
    code.get(c, cStride).const(most).op(i32.mul).op(i32.add).set(c);
    code.increment(m, -most);
  });
  for (let rows = 1; rows < most; rows++) {
    code.get(m).const(rows).op(i32.eq).if(() => call(rows));
  }
  return code.finish();
}

function add(code: FunctionBuilder, local: Local, by: Local): void {
  code.get(local, by).op(i32.add).set(local);
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

type Four = [number, number, number, number];
type Five = [...Four, number];
type Seven = [...Five, number, number];
type Eleven = [...Seven, ...Four];
type Thirteen = [...Eleven, number, number];
