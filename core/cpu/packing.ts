/**
 * Packing of matrices into panels: a few columns each, row after row, so that a product reads memory in order. Halves
 * are widened on the way.
 *
 * Each function has the address of a matrix of k rows and n columns, its strides in bytes, and where the panels go.
 * What is missing of the last panel is zeros.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { bytesPerElement } from "../backend.ts";
import type { Half } from "../half.ts";
import {
  type AddressBits,
  type FunctionCode,
  functionOf,
  type Pointer,
  valueType,
} from "./assembler.ts";
import { widen } from "./half.ts";
import { Lanes, type Vec } from "./lanes.ts";
import { i32, i32x4, v128 } from "./opcodes.ts";

/** Columns of a panel of a right operand. */
export const PANEL = 8;

/** Panels whose rows are copied together. */
const GROUP = 4;

/** Rows that are read at a time. */
const STREAMS = 16;

/** What a matrix holds. */
export type Packed = "f32" | Half;

/** `(source, kStride, nStride, to, k, n, width)`: whatever the strides and the width of panels. */
export function packAny(dtype: Packed, bits: AddressBits): FunctionCode {
  const { code, parameters } = functionOf(bits, "aiiaiii");
  const [source, kStride, nStride, to, k, n, width] = parameters;
  const v = new Lanes(code, false);
  const [row, at] = code.pointers(2), [column, left] = code.locals(2);
  code.while(() => code.get(n).const(0).op(i32.gtS), () => {
    code.get(source).set(row).get(k).set(left);
    code.while(() => code.get(left), () => {
      code.get(row).set(at).const(0).set(column);
      code.doWhile(() => {
        code.get(to).get(column).get(n).op(i32.ltS);
        code.if(
          () => {
            if (dtype === "f32") code.get(at).memory(i32.load);
            else code.scope(() => v.extract(loadOne(v, dtype, at, 0), 0));
          },
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
    code.get(source, nStride, width).op(i32.mul).plus().set(source);
    code.get(n, width).op(i32.sub).set(n);
  });
  return code.finish();
}

/**
 * `(source, kStride, to, k, n)`: where rows are contiguous. Columns that do not fill a panel are for function `any`.
 *
 * Few rows at a time are read over all columns: as many streams as processors fetch ahead of.
 */
export function packRows(
  dtype: Packed,
  any: number,
  width: number,
  bits: AddressBits,
): FunctionCode {
  const { code, parameters } = functionOf(bits, "aiaii");
  const [source, kStride, to, k, n] = parameters;
  const v = new Lanes(code, false);
  const bytes = bytesPerElement(dtype);
  const row = code.pointer(), [left, whole] = code.locals(2);
  const panels = code.pointers(GROUP);
  const copyRow = (panel: Pointer, from: number) => {
    let i = 0;
    for (; i + 4 <= width; i += 4) {
      const four = loadFour(v, dtype, row, from + i);
      code.get(panel, four.local).memory(v128.store, 4 * i);
    }
    for (; i < width; i++) {
      const one = loadOne(v, dtype, row, from + i);
      code.get(panel, one.local).memory(v128.store32Lane, 4 * i, 0);
    }
  };
  const copy = (group: readonly Pointer[]) => {
    const columns = width * group.length;
    code.get(n, n).const(columns).op(i32.remU).op(i32.sub).set(whole);
    code.blocks(
      { from: 0, to: { local: k } },
      STREAMS,
      (rows) =>
        code.blocks({ from: 0, to: { local: whole } }, columns, (part) => {
          code.get(source).push(rows.from).get(kStride).op(i32.mul).plus();
          code.push(part.from).const(bytes).op(i32.mul).plus().set(row);
          group.forEach((panel, i) => {
            code.push(part.from).const(width * i).op(i32.add).get(k).op(
              i32.mul,
            );
            code.push(rows.from).const(width).op(i32.mul).op(i32.add);
            code.const(4).op(i32.mul).from(to).set(panel);
          });
          code.push(rows.size).set(left);
          code.doWhile(() => {
            group.forEach((panel, i) => {
              code.scope(() => copyRow(panel, width * i));
              code.increment(panel, 4 * width);
            });
            code.add(row, kStride);
            code.increment(left, -1);
          }, () => code.get(left));
        }),
    );
    code.get(to, whole, k).op(i32.mul).const(4).op(i32.mul).plus().set(to);
    code.get(source, whole).const(bytes).op(i32.mul).plus().set(source);
    code.get(n, whole).op(i32.sub).set(n);
  };
  copy(panels);
  copy(panels.slice(0, 1));
  code.get(source, kStride).const(bytes).get(to, k, n).const(width).call(any);
  return code.finish();
}

/**
 * `(source, nStride, to, k, n)`: where columns are contiguous, by transposing squares of four. What is left over is for
 * function `any`.
 */
export function packColumns(
  dtype: Packed,
  any: number,
  width: number,
  bits: AddressBits,
): FunctionCode {
  const { code, parameters } = functionOf(bits, "aiaii");
  const [source, nStride, to, k, n] = parameters;
  const v = new Lanes(code, false);
  const bytes = bytesPerElement(dtype);
  const left = code.local();
  const columns = code.pointers(width);
  code.while(() => code.get(n).const(width).op(i32.geS), () => {
    columns.forEach((column, j) => {
      code.get(j === 0 ? source : columns[j - 1]!);
      if (j > 0) code.get(nStride).plus();
      code.set(column);
    });
    code.get(k).set(left);
    code.while(() => code.get(left).const(4).op(i32.geS), () => {
      for (let j = 0; j < width; j += 4) copyFour(j);
      code.increment(to, 16 * width).increment(left, -4);
    });
    code.get(columns[0]!).const(bytes).get(nStride, to, left);
    code.const(width).const(width).call(any);
    code.get(to, left).const(4 * width).op(i32.mul).plus().set(to);
    code.get(source, nStride).const(width).op(i32.mul).plus();
    code.set(source).increment(n, -width);
  });
  code.get(source).const(bytes).get(nStride, to, k, n).const(width).call(any);
  return code.finish();

  /** Copies four elements of the up to four columns from `first` on. */
  function copyFour(first: number): void {
    code.scope(() => {
      const loaded = columns.slice(first, first + 4).map((column) => {
        const four = loadFour(v, dtype, column, 0);
        code.increment(column, 4 * bytes);
        return four;
      });
      const at = (element: number, column: number) =>
        4 * (width * element + first + column);
      if (loaded.length === 4) {
        transpose(v, loaded).forEach((x, i) =>
          code.get(to, x.local).memory(v128.store, at(i, 0))
        );
      } else {
        loaded.forEach((x, j) => {
          for (let i = 0; i < 4; i++) {
            code.get(to, x.local).memory(v128.store32Lane, at(i, j), i);
          }
        });
      }
    });
  }
}

/** Four neighbours as floats. */
function loadFour(v: Lanes, dtype: Packed, at: Pointer, element: number): Vec {
  const isWide = dtype === "f32";
  v.code.get(at).memory(
    isWide ? v128.load : v128.load16x4U,
    bytesPerElement(dtype) * element,
  );
  return isWide ? v.pop() : widen(v, v.pop(), dtype);
}

/** One element as a float in all lanes. */
function loadOne(v: Lanes, dtype: Packed, at: Pointer, element: number): Vec {
  const offset = bytesPerElement(dtype) * element;
  v.code.get(at);
  if (dtype === "f32") {
    v.code.memory(v128.load32Splat, offset);
    return v.pop();
  }
  v.code.memory(i32.load16U, offset).op(i32x4.splat);
  return widen(v, v.pop(), dtype);
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
