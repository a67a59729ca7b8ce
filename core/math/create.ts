/**
 * Creation of tensors, from host data and from rules.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { currentRuntime } from "../context.ts";
import {
  checkDType,
  type Data,
  type DType,
  dtypeOf,
  toData,
} from "../dtype.ts";
import { DTypeError, ShapeError } from "../errors.ts";
import { isHalf } from "../half.ts";
import { bind, fill } from "../ops.ts";
import {
  checkShape,
  describe,
  normalizeAxis,
  type Shape,
  sizeOf,
} from "../shape.ts";
import { Tensor } from "../tensor.ts";
import type { NestedArray } from "../tensor_methods.ts";
import { evaluate, traced } from "../trace.ts";
import { add, cast, eq, mul, where } from "./elementwise.ts";

/** Dtype of a created tensor. */
export interface DTypeOptions {
  /** Element type; f32 when absent. */
  readonly dtype?: DType;
}

/**
 * A tensor of numbers, nested arrays, or a typed array, whose elements are copied.
 *
 * The dtype is that of the typed array, bool for booleans, f32 otherwise, unless `dtype` says another. For f16 and bf16
 * numbers are rounded to the nearest, ties to even, while a Uint16Array holds their bits as they are in a file.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "cotan";
 *
 * const x = tensor([[1, 2], [3, 4]]);
 * assertEquals(String(x), "f32[2, 2]");
 * const ids = tensor(Int32Array.of(1, 2, 3), { shape: [3, 1] });
 * assertEquals(String(ids), "i32[3, 1]");
 * const bits = tensor(Uint16Array.of(0x3f80, 0xc040), { dtype: "bf16" });
 * assertEquals([...await bits.data()], [1, -3]);
 * ```
 */
export function tensor(
  values: NestedArray | Data,
  options: DTypeOptions & { readonly shape?: Shape } = {},
): Tensor {
  const { flat, shape: found } = ArrayBuffer.isView(values)
    ? { flat: values, shape: [values.length] }
    : flatten(values);
  const shape = options.shape ?? found;
  checkShape(shape, "make a tensor of shape");
  if (sizeOf(shape) !== flat.length) {
    throw new ShapeError(
      `Cannot make a tensor of shape [${
        shape.join(", ")
      }] from ${flat.length} elements: it takes ${sizeOf(shape)}`,
    );
  }
  const dtype = options.dtype ??
    (ArrayBuffer.isView(values)
      ? dtypeOf(values)
      : typeof flat[0] === "boolean"
      ? "bool"
      : "f32");
  checkDType(dtype);
  if (flat instanceof Uint16Array && !isHalf(dtype)) {
    throw new DTypeError(
      `Cannot make a tensor of ${dtype} from a Uint16Array: it holds the bits of f16 or bf16; pass one of them as dtype`,
    );
  }
  const runtime = currentRuntime();
  const data = toData(
    flat as ArrayLike<number>,
    dtype,
    runtime.backend.precision,
  );
  const storage = runtime.backend.upload(data, dtype, shape);
  return new Tensor([...shape], dtype, { kind: "stored", runtime, storage });
}

function flatten(
  values: NestedArray,
): { flat: (number | boolean)[]; shape: number[] } {
  const shape: number[] = [];
  for (let v = values; Array.isArray(v); v = v[0]!) shape.push(v.length);
  const flat: (number | boolean)[] = [];
  const visit = (v: NestedArray, axis: number): void => {
    const isLeaf = typeof v === "number" || typeof v === "boolean";
    if (!isLeaf && !Array.isArray(v)) {
      throw new DTypeError(
        `Cannot make a tensor of ${
          describe(v)
        }: elements are numbers or booleans`,
      );
    }
    if (
      isLeaf !== (axis === shape.length) || !isLeaf && v.length !== shape[axis]
    ) {
      throw new ShapeError(
        `Cannot make a tensor of a ragged array: at depth ${axis} ${
          isLeaf
            ? "there is a number"
            : `a length is ${(v as NestedArray[]).length}`
        }, and the first has shape [${shape.join(", ")}]`,
      );
    }
    if (isLeaf) flat.push(v);
    else for (const child of v) visit(child, axis + 1);
  };
  visit(values, 0);
  return { flat, shape };
}

/** A tensor of one number, everywhere. */
export function full(
  shape: Shape,
  value: number,
  options: DTypeOptions = {},
): Tensor {
  checkShape(shape, "fill shape");
  const dtype = options.dtype ?? "f32";
  checkDType(dtype);
  return evaluate(() => traced(fill({ shape: [...shape], dtype }, value)));
}

/** A tensor of zeros. */
export function zeros(shape: Shape, options: DTypeOptions = {}): Tensor {
  return full(shape, 0, options);
}

/** A tensor of ones. */
export function ones(shape: Shape, options: DTypeOptions = {}): Tensor {
  return full(shape, 1, options);
}

/** The index along an axis, 0 by default, in a tensor of a shape; i32 when no dtype is given. */
export function iota(
  shape: Shape,
  options: DTypeOptions & { readonly axis?: number } = {},
): Tensor {
  checkShape(shape, "make iota of shape");
  const dtype = options.dtype ?? "i32";
  checkDType(dtype);
  const axis = normalizeAxis(
    options.axis ?? 0,
    { shape, dtype },
    "make iota of",
  );
  return evaluate(() =>
    traced(bind("iota", [], { shape: [...shape], dtype, axis }))
  );
}

/** Numbers from start (0) up to stop, which is left out, by a step (1). */
export function arange(
  stop: number,
  options: DTypeOptions & { readonly start?: number; readonly step?: number } =
    {},
): Tensor {
  const { start = 0, step = 1, dtype = "f32" } = options;
  const size = Math.max(0, Math.ceil((stop - start) / step));
  if (!Number.isFinite(size)) {
    throw new ShapeError(
      `Cannot make a range from ${start} to ${stop} by steps of ${step}: its length would be ${size}`,
    );
  }
  return evaluate(() => add(mul(iota([size], { dtype }), step), start));
}

/** `count` numbers from start to stop, both included, at equal distances. */
export function linspace(start: number, stop: number, count: number): Tensor {
  checkShape([count], "make linspace of shape");
  return evaluate(() => {
    const i = iota([count], { dtype: "f32" });
    const step = count > 1 ? (stop - start) / (count - 1) : 0;
    // Rounding must not move the end.
    const isEnd = eq(i, Math.max(1, count - 1));
    return where(isEnd, stop, add(mul(i, step), start));
  });
}

/** The identity matrix. */
export function eye(size: number, options: DTypeOptions = {}): Tensor {
  checkShape([size, size], "make eye of shape");
  return evaluate(() => {
    const row = iota([size, size]), column = iota([size, size], { axis: 1 });
    return cast(eq(row, column), options.dtype ?? "f32");
  });
}

/** x below the k-th diagonal of the last two axes and on it, 0 above. */
export function tril(x: Tensor, options: { readonly k?: number } = {}): Tensor {
  return band(x, (row, column) => column.le(row.add(options.k ?? 0)));
}

/** x above the k-th diagonal of the last two axes and on it, 0 below. */
export function triu(x: Tensor, options: { readonly k?: number } = {}): Tensor {
  return band(x, (row, column) => column.ge(row.add(options.k ?? 0)));
}

function band(
  x: Tensor,
  inside: (row: Tensor, column: Tensor) => Tensor,
): Tensor {
  return evaluate(() => {
    const shape = x.shape.slice(-2);
    if (shape.length < 2) {
      throw new ShapeError(`Cannot take a triangle of ${x}: it needs two axes`);
    }
    return where(inside(iota(shape), iota(shape, { axis: 1 })), x, 0);
  });
}
