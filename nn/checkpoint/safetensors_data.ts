/**
 * The data of a safetensors file: conversion between the dtypes of the format and those of tensors.
 *
 * Typed arrays have the byte order of the machine, which is little-endian wherever Deno and browsers run, as in files.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  type Data,
  type DType,
  DTypeError,
  format,
  type Shape,
  type Tensor,
} from "../../core/mod.ts";
import { fail, quote } from "./json.ts";
import {
  type Entry,
  type FileDType,
  fileDTypes,
} from "./safetensors_header.ts";
import type { Scratch } from "./stream.ts";

/** What a tensor of each file dtype becomes where floats become f32. */
const dtypeOf: Readonly<Record<FileDType, DType>> = {
  I64: "i32",
  F64: "f32",
  F32: "f32",
  U32: "u32",
  I32: "i32",
  BF16: "f32",
  F16: "f32",
  U8: "bool",
  BOOL: "bool",
};

/** What floats are loaded as; "auto" leaves halves as they are, and makes f32 of the others. */
export type LoadDType = "f32" | "f16" | "bf16" | "auto";

/** Throws where floats cannot be loaded as that. */
export function checkLoadDType(dtype: LoadDType): void {
  if (["f32", "f16", "bf16", "auto"].includes(dtype)) return;
  throw new DTypeError(
    `Cannot load floats as ${dtype as string}: there are f32, f16, bf16 and auto`,
  );
}

/** What a tensor of a file dtype becomes. */
export function loadedDType(from: FileDType, floats: LoadDType): DType {
  const dtype = dtypeOf[from];
  if (dtype !== "f32") return dtype;
  if (floats !== "auto") return floats;
  return from === "F16" ? "f16" : from === "BF16" ? "bf16" : "f32";
}

/** What a tensor is saved as. */
const fileDTypeOf: Readonly<Record<DType, FileDType>> = {
  f32: "F32",
  f16: "F16",
  bf16: "BF16",
  i32: "I32",
  u32: "U32",
  bool: "BOOL",
};

/** The type that a tensor of a file becomes, as text such as `f32[2, 3]`. */
export function typeOf(
  info: { readonly dtype: FileDType; readonly shape: Shape },
): string {
  return format({ dtype: dtypeOf[info.dtype], shape: info.shape });
}

/**
 * The elements of some bytes of a tensor of a file, which begin `at` bytes after its start, for a tensor of dtype `to`:
 * halves that stay what they are as bits, other floats as numbers. f32 keeps every bit; narrower floats are widened
 * exactly, F64 is left as it is. Throws `FormatError` where an integer does not fit i32,
 * or a byte is neither 0 nor 1.
 */
export function decodeData(
  { name, dtype }: Pick<Entry, "name" | "dtype">,
  bytes: Uint8Array,
  file: string,
  to: DType,
  at = 0,
  scratch: Scratch = (length) => new Float32Array(length),
): Data {
  const size = fileDTypes[dtype];
  const { buffer, byteOffset } = bytes.byteOffset % size === 0
    ? bytes
    : bytes.slice();
  const length = bytes.length / size;
  switch (dtype) {
    case "F32":
      return new Float32Array(buffer, byteOffset, length);
    case "F64":
      return new Float64Array(buffer, byteOffset, length);
    case "I32":
      return new Int32Array(buffer, byteOffset, length);
    case "U32":
      return new Uint32Array(buffer, byteOffset, length);
    case "BF16": {
      const halves = new Uint16Array(buffer, byteOffset, length);
      return to === "bf16" ? halves : widenBfloat16(halves, scratch(length));
    }
    case "F16": {
      if (to === "f16") return new Uint16Array(buffer, byteOffset, length);
      const out = scratch(length);
      out.set(new Float16Array(buffer as ArrayBuffer, byteOffset, length));
      return out;
    }
    case "I64": {
      const words = new Int32Array(buffer, byteOffset, 2 * length);
      return narrow(words, name, at / size, file);
    }
    case "U8":
    case "BOOL": {
      const wrong = bytes.findIndex((x) => x > 1);
      if (wrong < 0) return bytes;
      return fail(
        file,
        `tensor ${quote(name)} of dtype ${dtype} has ` +
          `${bytes[wrong]} at element ${
            at + wrong
          }; it is read as bool, from 0 and 1`,
      );
    }
  }
}

/** A bfloat16 is the upper half of the float32 that equals it. */
function widenBfloat16(
  halves: Uint16Array,
  out: Float32Array<ArrayBuffer>,
): Float32Array {
  const bits = new Uint32Array(out.buffer, out.byteOffset, out.length);
  for (let i = 0; i < bits.length; i++) bits[i] = halves[i]! << 16;
  return out;
}

/** The low words of 64-bit integers whose high words only repeat the sign. */
function narrow(
  words: Int32Array,
  name: string,
  first: number,
  file: string,
): Int32Array {
  const out = new Int32Array(words.length / 2);
  for (let i = 0; i < out.length; i++) {
    const low = out[i] = words[2 * i]!, high = words[2 * i + 1]!;
    if (high !== low >> 31) {
      const value = BigInt(high) << 32n | BigInt(low >>> 0);
      fail(
        file,
        `tensor ${quote(name)} of dtype I64 has ${value} at element ` +
          `${first + i}; it is read as i32, and that does not fit`,
      );
    }
  }
  return out;
}

/** What floats may be saved as. */
export type SaveDType = "f32" | "f16" | "bf16";

/** What a tensor of a dtype is saved as, where floats may be saved in another; throws where that is none. */
export function savedDType(dtype: DType, floats?: SaveDType): FileDType {
  const names = { f32: "F32", f16: "F16", bf16: "BF16" } as const;
  if (floats !== undefined && !Object.hasOwn(names, floats)) {
    throw new DTypeError(
      `Cannot save floats as ${floats as string}: there are f32, f16 and bf16`,
    );
  }
  return floats && Object.hasOwn(names, dtype)
    ? names[floats]
    : fileDTypeOf[dtype];
}

/** The elements of a tensor as it is saved: the bits of halves that stay what they are, else numbers. */
export function readSaved(tensor: Tensor, dtype: FileDType): Promise<Data> {
  const isKept = dtype === fileDTypeOf[tensor.dtype];
  const isHalf = tensor.dtype === "f16" || tensor.dtype === "bf16";
  return isKept && isHalf ? tensor.bits() : tensor.data();
}

/** The bytes of elements that `readSaved` gave. Numbers become halves by rounding to nearest, ties to even. */
export function encodeData(data: Data, dtype: FileDType): Uint8Array {
  const { buffer, byteOffset, byteLength } = arrayOf(data, dtype);
  return new Uint8Array(buffer, byteOffset, byteLength);
}

function arrayOf(data: Data, dtype: FileDType): ArrayBufferView {
  if (data instanceof Uint16Array) return data;
  if (dtype === "F16") return new Float16Array(data);
  if (dtype === "BF16") return narrowToBfloat16(new Float32Array(data));
  // Only the reference backend's float64 mode gives wider elements.
  return data instanceof Float64Array ? new Float32Array(data) : data;
}

function narrowToBfloat16(data: Float32Array): Uint16Array {
  const bits = new Uint32Array(data.buffer);
  const out = new Uint16Array(bits.length);
  for (let i = 0; i < out.length; i++) {
    const word = bits[i]!;
    // Rounding up would make an infinity of some NaNs, or zero of others.
    const isNaN = (word & 0x7fffffff) > 0x7f800000;
    const half = isNaN ? word | 0x400000 : word + 0x7fff + (word >>> 16 & 1);
    out[i] = half >>> 16;
  }
  return out;
}
