/**
 * Element types, and the typed arrays that hold them on the host.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { DTypeError } from "./errors.ts";
import { narrow } from "./half.ts";

/** Element type of a tensor; f16 and bf16 are for storage: they move and cast, and computation is in f32. */
export type DType = "f32" | "f16" | "bf16" | "i32" | "u32" | "bool";

/**
 * Host data of a tensor: `Float32Array` for f32 (`Float64Array` under precision "f64"), `Int32Array`, `Uint32Array`,
 * `Uint8Array` of zeros and ones for bool, and `Uint16Array` of the bits of f16 and bf16.
 */
export type Data =
  | Float32Array
  | Float64Array
  | Int32Array
  | Uint32Array
  | Uint16Array
  | Uint8Array;

/** Throws where a dtype is none of these. */
export function checkDType(dtype: DType): void {
  if (["f32", "f16", "bf16", "i32", "u32", "bool"].includes(dtype)) return;
  throw new DTypeError(
    `Cannot make a tensor of dtype ${dtype}: there are f32, f16, bf16, i32, u32 and bool`,
  );
}

/** Whether the dtype is one that gradients flow through. */
export function isFloat(dtype: DType): boolean {
  return dtype === "f32";
}

/** The dtype that holds the elements of a host array; f32 for floating-point arrays of any width. */
export function dtypeOf(data: Data): DType {
  if (data instanceof Int32Array) return "i32";
  if (data instanceof Uint32Array) return "u32";
  if (data instanceof Uint8Array) return "bool";
  return "f32";
}

/**
 * Host elements converted to the array type of a dtype; the array itself where it has that type already. A Uint16Array
 * is bits of halves.
 */
export function toData(
  values: ArrayLike<number>,
  dtype: DType,
  precision: "f32" | "f64" = "f32",
): Data {
  switch (dtype) {
    case "f16":
    case "bf16":
      return values instanceof Uint16Array ? values : narrow(values, dtype);
    case "f32":
      if (precision === "f64") {
        return values instanceof Float64Array
          ? values
          : Float64Array.from(values);
      }
      return values instanceof Float32Array
        ? values
        : Float32Array.from(values);
    case "i32":
      return values instanceof Int32Array ? values : Int32Array.from(values);
    case "u32":
      return values instanceof Uint32Array ? values : Uint32Array.from(values);
    case "bool":
      return Uint8Array.from(values, (v) => v ? 1 : 0);
  }
}
