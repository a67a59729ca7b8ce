/**
 * Packing of matrices into panels: a few columns each, row after row, so that a product reads memory in order.
 *
 * Each function has the address of a matrix of k rows and n columns, its strides in bytes, and where the panels go.
 * What is missing of the last panel is zeros.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  type FunctionCode,
  functionOf,
  type Local,
  valueType,
} from "./assembler.ts";
import { Lanes, type Vec } from "./lanes.ts";
import { i32, v128 } from "./opcodes.ts";

/** Columns of a panel of a right operand. */
export const PANEL = 8;

/** Number of `packAny` in every module, by which the other functions call it for what is left over. */
export const PACK_ANY = 0;

/** `(source, kStride, nStride, to, k, n, width)`: whatever the strides and the width of panels. */
export function packAny(): FunctionCode {
  const { code, parameters } = functionOf(7);
  const [source, kStride, nStride, to, k, n, width] = parameters;
  const [row, at, column, left] = code.locals(4);
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
        code.add(at, nStride);
        code.increment(to, 4).increment(column, 1);
      }, () => code.get(column, width).op(i32.ltS));
      code.add(row, kStride);
      code.increment(left, -1);
    });
    code.get(source, nStride, width).op(i32.mul).op(i32.add).set(source);
    code.get(n, width).op(i32.sub).set(n);
  });
  return code.finish();
}

/**
 * `(source, kStride, to, k, n)`: where rows are contiguous. Up to `most` panels are packed at a time, so that the parts
 * of rows which are read together are long.
 */
export function packRows(width: number, most: number): FunctionCode {
  const { code, parameters } = functionOf(5);
  const [source, kStride, to, k, n] = parameters;
  const [row, left] = code.locals(2);
  const panels = code.locals(most);
  const copyRow = (panel: Local, from: number) => {
    let i = 0;
    for (; i + 4 <= width; i += 4) {
      code.get(panel, row).memory(v128.load, from + 4 * i);
      code.memory(v128.store, 4 * i);
    }
    for (; i < width; i++) {
      code.get(panel, row).memory(i32.load, from + 4 * i);
      code.memory(i32.store, 4 * i);
    }
  };
  const copy = (group: readonly Local[]) => {
    const columns = width * group.length;
    code.while(() => code.get(n).const(columns).op(i32.geS), () => {
      code.get(source).set(row).get(k).set(left);
      group.forEach((panel, i) => {
        code.get(to).get(k).const(4 * width * i).op(i32.mul).op(i32.add);
        code.set(panel);
      });
      code.while(() => code.get(left), () => {
        group.forEach((panel, i) => {
          copyRow(panel, 4 * width * i);
          code.increment(panel, 4 * width);
        });
        code.add(row, kStride);
        code.increment(left, -1);
      });
      code.get(to, k).const(4 * columns).op(i32.mul).op(i32.add).set(to);
      code.increment(source, 4 * columns).increment(n, -columns);
    });
  };
  if (most > 1) copy(panels);
  copy(panels.slice(0, 1));
  code.get(source, kStride).const(4).get(to, k, n).const(width).call(PACK_ANY);
  return code.finish();
}

/** `(source, nStride, to, k, n)`: where columns are contiguous, by transposing squares of four. */
export function packColumns(): FunctionCode {
  const { code, parameters } = functionOf(5);
  const [source, nStride, to, k, n] = parameters;
  const v = new Lanes(code, false);
  const left = code.local();
  const columns = code.locals(PANEL);
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
    code.const(PANEL).const(PANEL).call(PACK_ANY);
    code.get(to, left).const(4 * PANEL).op(i32.mul).op(i32.add).set(to);
    code.get(source, nStride).const(PANEL).op(i32.mul).op(i32.add);
    code.set(source).increment(n, -PANEL);
  });
  code.get(source).const(4).get(nStride, to, k, n).const(PANEL).call(PACK_ANY);
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
