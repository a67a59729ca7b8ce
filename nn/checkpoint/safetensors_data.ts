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

/** What a tensor of each file dtype becomes, and what one of each dtype is saved as. */
export const dtypeOf: Readonly<Record<FileDType, DType>> = {
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

/** What a tensor is saved as. */
export const fileDTypeOf: Readonly<Record<DType, FileDType>> = {
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
 * The elements of a tensor of a file. f32 keeps every bit; narrower floats are widened exactly, F64 is left as it is.
 * Throws `FormatError` where an integer does not fit i32, or a byte is neither 0 nor 1.
 */
export function decodeData(
  entry: Entry,
  bytes: Uint8Array,
  file: string,
): Data {
  const size = fileDTypes[entry.dtype];
  const { buffer, byteOffset } = bytes.byteOffset % size === 0
    ? bytes
    : bytes.slice();
  const length = entry.bytes / size;
  switch (entry.dtype) {
    case "F32":
      return new Float32Array(buffer, byteOffset, length);
    case "F64":
      return new Float64Array(buffer, byteOffset, length);
    case "I32":
      return new Int32Array(buffer, byteOffset, length);
    case "U32":
      return new Uint32Array(buffer, byteOffset, length);
    case "BF16":
      return widen(new Uint16Array(buffer, byteOffset, length), (x) => x << 16);
    case "F16":
      return widen(new Uint16Array(buffer, byteOffset, length), float16Bits);
    case "I64":
      return narrow(
        new Int32Array(buffer, byteOffset, 2 * length),
        entry,
        file,
      );
    case "U8":
    case "BOOL": {
      const at = bytes.findIndex((x) => x > 1);
      if (at < 0) return bytes;
      return fail(
        file,
        `tensor ${quote(entry.name)} of dtype ${entry.dtype} has ` +
          `${bytes[at]} at element ${at}; it is read as bool, from 0 and 1`,
      );
    }
  }
}

function widen(
  halves: Uint16Array,
  bits: (half: number) => number,
): Float32Array {
  const out = new Uint32Array(halves.length);
  for (let i = 0; i < out.length; i++) out[i] = bits(halves[i]!);
  return new Float32Array(out.buffer);
}

/** Bits of the float32 that equals a float16: sign, 8 bits of exponent with bias 127 for 5 with bias 15, fraction. */
function float16Bits(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = half >> 10 & 31, fraction = half & 0x3ff;
  if (exponent === 31) return sign | 0x7f800000 | fraction << 13;
  if (exponent > 0) return sign | exponent + 112 << 23 | fraction << 13;
  if (fraction === 0) return sign;
  // A subnormal: fraction · 2^-24, with its first set bit moved to where it is left out.
  const shift = Math.clz32(fraction) - 21;
  return sign | 113 - shift << 23 | (fraction << shift & 0x3ff) << 13;
}

/** The low words of 64-bit integers whose high words only repeat the sign. */
function narrow(words: Int32Array, entry: Entry, file: string): Int32Array {
  const out = new Int32Array(words.length / 2);
  for (let i = 0; i < out.length; i++) {
    const low = out[i] = words[2 * i]!, high = words[2 * i + 1]!;
    if (high !== low >> 31) {
      const value = BigInt(high) << 32n | BigInt(low >>> 0);
      fail(
        file,
        `tensor ${quote(entry.name)} of dtype I64 has ${value} at element ` +
          `${i}; it is read as i32, and that does not fit`,
      );
    }
  }
  return out;
}

/** The bytes of a tensor's elements as they are saved. */
export async function encodeData(tensor: Tensor): Promise<Uint8Array> {
  const isHalf = tensor.dtype === "f16" || tensor.dtype === "bf16";
  const data = await (isHalf ? tensor.bits() : tensor.data());
  // Only the reference backend's float64 mode gives wider elements.
  const narrow = data instanceof Float64Array ? Float32Array.from(data) : data;
  return new Uint8Array(narrow.buffer, narrow.byteOffset, narrow.byteLength);
}
