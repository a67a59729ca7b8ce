/**
 * Loops of the reference backend.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Data } from "../dtype.ts";
import type { Node, ScanParams } from "../node.ts";
import { sizeOf, type Type } from "../shape.ts";

/** Where values come from. */
export interface Workspace {
  /** Room for a value. */
  create(type: Type): Data;
  /** Calls what makes values that are not held for long. */
  passing<R>(f: () => R): R;
}

/** The parts of a loop, given its operands and a function that runs one step. */
export function runScan(
  node: Node,
  operands: readonly Data[],
  step: (operands: readonly Data[]) => Data[],
  { create, passing }: Workspace,
): Data[] {
  const params = node.params as ScanParams;
  const { body, carries: count, xs, length, axis, reverse } = params;
  let carries = operands.slice(0, count);
  const over = operands.slice(count, count + xs);
  const constants = operands.slice(count + xs);
  const stackedTypes = [
    ...body.outputs.slice(count),
    ...body.inputs.slice(0, count),
  ];
  const stacks = stackedTypes.map(({ shape, dtype }) =>
    create({ shape: shape.toSpliced(axis, 0, length), dtype })
  );
  const sliceAt = (data: Data, type: Type, at: number): Data => {
    const slice = create(type);
    eachRow(
      type,
      params,
      at,
      (row, from, size) => slice.set(data.subarray(from, from + size), row),
    );
    return slice;
  };
  for (let i = 0; i < length; i++) {
    const at = reverse ? length - 1 - i : i;
    const before = carries;
    const results = passing(() => {
      const slices = over.map((data, j) =>
        sliceAt(data, body.inputs[count + j]!, at)
      );
      return step([...before, ...slices, ...constants]);
    });
    carries = results.slice(0, count);
    [...results.slice(count), ...before].forEach((data, j) =>
      eachRow(
        stackedTypes[j]!,
        params,
        at,
        (row, to, size) => stacks[j]!.set(data.subarray(row, row + size), to),
      )
    );
  }
  return [...carries, ...stacks];
}

/** Visits the rows of a slice: where each begins in it, where in the stack, and how long it is. */
function eachRow(
  { shape }: Type,
  { axis, length }: ScanParams,
  at: number,
  visit: (row: number, inStack: number, size: number) => void,
): void {
  const size = sizeOf(shape.slice(axis));
  const rows = sizeOf(shape.slice(0, axis));
  for (let i = 0; i < rows; i++) {
    visit(i * size, (i * length + at) * size, size);
  }
}
