/**
 * Operands of products that are computed as they are packed: a part of a block at a time, which stays in the first cache.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { viewMapper } from "../plan/expression.ts";
import type { Expr } from "../plan/kernel.ts";
import type { Block, Bound, FunctionBuilder, Pointer } from "./assembler.ts";
import type { Lanes } from "./lanes.ts";
import { copiesFor, storeAll } from "./map.ts";
import { Nest } from "./nest.ts";
import { i32 } from "./opcodes.ts";
import { phasesOf, QUAD } from "./pointers.ts";
import type { Packers } from "./shared.ts";

/** Most columns that are computed at a time. */
const PART = 64;

/** A matrix of k rows and n columns that is computed; the right operand of a product, or the left one transposed. */
export interface Computed {
  /** Its elements, over axes of which those two are the last. */
  readonly expr: Expr;
  /** The axis of k, counted from the back, and that of n. */
  readonly axes: readonly [k: number, n: number];
  /** Whether rows are computed one after another, not columns. */
  readonly isByRows: boolean;
  /** Columns of a panel. */
  readonly width: number;
  /** Pack what is computed, into panels of that width. */
  readonly packers: Pick<Packers, "rows" | "columns">;
  /** Most rows of a block. */
  readonly kBlock: number;
}

/** Bytes from an address. */
export interface Memory {
  /** The address. */
  readonly base: Pointer;
  /** How many bytes. */
  readonly offset: number;
}

/** Bytes of memory for the parts of blocks of so many rows. */
export function computedBytes(kBlock: number): number {
  return 4 * Math.max(kBlock * strideOf(PART), PART * strideOf(kBlock));
}

/** Emits the packing of a block, by way of memory for a part of it. */
export function packComputed(
  lanes: Lanes,
  matrix: Computed,
  k: Block,
  n: Block,
  memory: Memory,
  panels: Memory,
): void {
  const { code } = lanes;
  const { isByRows, width, packers, kBlock } = matrix;
  const stride = strideOf(isByRows ? PART : kBlock);
  code.blocks(n, PART - PART % width, (part) =>
    code.scope(() => {
      const [lines, elements] = isByRows ? [k, part] : [part, k];
      code.get(compute(lanes, matrix, lines, elements, { memory, stride }));
      code.const(4 * stride);
      code.get(panels.base).const(panels.offset).plus();
      code.push(part.from).push(n.from).op(i32.sub).push(k.size).op(i32.mul);
      code.const(4).op(i32.mul).plus().push(k.size).push(part.size);
      code.call(isByRows ? packers.rows : packers.columns);
    }));
}

/** Computes lines of elements into memory: the address of the first. */
function compute(
  lanes: Lanes,
  { expr, axes: [k, n], isByRows }: Computed,
  lines: Block,
  elements: Block,
  { memory, stride }: { readonly memory: Memory; readonly stride: number },
): Pointer {
  const { code } = lanes;
  const from = alignedDown(code, elements.from);
  const [origin, first] = code.pointers(2);
  const bytesTo = (element: Bound): void => {
    code.push(lines.from).const(stride).op(i32.mul).push(element).op(i32.add);
    code.const(4).op(i32.mul);
  };
  code.get(memory.base).const(memory.offset);
  bytesTo(from);
  code.op(i32.sub).plus().tee(origin);
  bytesTo(elements.from);
  code.plus().set(first);
  const order = isByRows ? [k, n] : [n, k];
  const moved = viewMapper(({ offset, strides }) => {
    return { offset, strides: order.map((axis) => strides.at(axis)!) };
  })(expr)!;
  const place = { buffer: origin, view: { offset: 0, strides: [stride, 1] } };
  const outputs = [{ ...place, expr: moved }];
  const places = [{ ...place, dtype: expr.dtype }];
  const region = { exprs: [moved], places, within: 1 };
  const nest = new Nest(lanes, 1, [region], null);
  const phases = phasesOf(copiesFor([moved]));
  nest.enter(() =>
    nest.loop(0, lines.from, lines.to, () =>
      nest.loop(
        1,
        from,
        elements.to,
        ({ copies }) => storeAll(nest, outputs, copies),
        phases,
      ))
  );
  return first;
}

/** Elements from one line to the next: there may be some before the first. */
function strideOf(elements: number): number {
  return QUAD * Math.ceil(elements / QUAD) + QUAD;
}

function alignedDown(code: FunctionBuilder, bound: Bound): Bound {
  if (typeof bound === "number") return bound - bound % QUAD;
  const local = code.local();
  code.push(bound).const(-QUAD).op(i32.and).set(local);
  return { local };
}
