/**
 * Shapes: sizes, strides, broadcasting, axes, and how types are written in messages.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { DType } from "./dtype.ts";
import { ShapeError } from "./errors.ts";

/** Sizes of the axes of a tensor. */
export type Shape = readonly number[];

/** Shape and dtype: all that is known of a tensor before it is computed. */
export interface Type {
  /** Sizes of the axes. */
  readonly shape: Shape;
  /** Element type. */
  readonly dtype: DType;
}

/** Number of elements. */
export function sizeOf(shape: Shape): number {
  let size = 1;
  for (const d of shape) size *= d;
  return size;
}

/** Row-major strides, in elements. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = stride;
    stride *= shape[i]!;
  }
  return strides;
}

/** Whether two shapes are equal. */
export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((d, i) => d === b[i]);
}

/** A type as it stands in messages: `f32[2, 3]`; what is none, as TypeScript would have said, by what it is. */
export function format(type: Type): string {
  if (!type?.shape) return describe(type);
  return `${type.dtype}[${type.shape.join(", ")}]`;
}

/** A value that may be no tensor as it stands in messages: `a Map`, `the number 3`. */
export function describe(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value === "function") return "a function";
  if (typeof value !== "object") return `the ${typeof value} ${String(value)}`;
  const name = value.constructor?.name ?? "object";
  return `${/^[AEIOU]/.test(name) ? "an" : "a"} ${name}`;
}

/** The shape that two shapes broadcast to by NumPy's rule, or null if they do not. */
export function broadcastShapes(a: Shape, b: Shape): number[] | null {
  const rank = Math.max(a.length, b.length);
  const out = new Array<number>(rank);
  for (let i = 0; i < rank; i++) {
    const x = a[a.length - rank + i] ?? 1;
    const y = b[b.length - rank + i] ?? 1;
    if (x !== y && x !== 1 && y !== 1) return null;
    out[i] = x === 1 ? y : x;
  }
  return out;
}

/** An axis counted from the front, from one that may count from the back; `op` and `type` stand in the error. */
export function normalizeAxis(axis: number, type: Type, op: string): number {
  const rank = type.shape.length;
  const at = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(axis) || at < 0 || at >= rank) {
    const range = rank === 0
      ? "it has no axes"
      : `axes go from ${-rank} to ${rank - 1}`;
    throw new ShapeError(
      `Cannot ${op} ${format(type)}: axis ${axis} is out of range, ${range}`,
    );
  }
  return at;
}

/** Axes counted from the front and sorted; all axes where none are given. */
export function normalizeAxes(
  axis: number | readonly number[] | undefined,
  type: Type,
  op: string,
): number[] {
  if (axis === undefined) return type.shape.map((_, i) => i);
  const axes = (typeof axis === "number" ? [axis] : axis).map((a) =>
    normalizeAxis(a, type, op)
  );
  axes.sort((a, b) => a - b);
  for (let i = 1; i < axes.length; i++) {
    if (axes[i] === axes[i - 1]) {
      throw new ShapeError(
        `Cannot ${op} ${format(type)}: axis ${axes[i]} is named twice`,
      );
    }
  }
  return axes;
}

/** Checks that every size is a non-negative integer. */
export function checkShape(shape: Shape, op: string): void {
  if (!Array.isArray(shape)) {
    throw new ShapeError(
      `Cannot ${op} ${describe(shape)}: a shape is an array of sizes`,
    );
  }
  for (const d of shape) {
    if (!Number.isInteger(d) || d < 0) {
      throw new ShapeError(
        `Cannot ${op} [${shape.join(", ")}]: ${d} is not a size`,
      );
    }
  }
}
