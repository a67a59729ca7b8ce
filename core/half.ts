/**
 * The halves: f16 (IEEE 754 binary16) and bf16 (the upper half of f32), as 16 bits in a Uint16Array.
 *
 * Widening is exact. Narrowing rounds to the nearest, ties to even, and goes to infinity beyond the range; every NaN
 * becomes the quiet one of its sign.
 *
 * This module is browser compatible.
 *
 * @module
 */

/** A dtype of two bytes. */
export type Half = "f16" | "bf16";

/** Whether a dtype is one of two bytes. */
export function isHalf(dtype: string | undefined): dtype is Half {
  return dtype === "f16" || dtype === "bf16";
}

/** The numbers that halves stand for. */
export function widen(bits: ArrayLike<number>, half: Half): Float32Array {
  const words = new Uint32Array(bits.length);
  const widened = half === "bf16" ? (x: number) => x << 16 : widenF16;
  for (let i = 0; i < words.length; i++) words[i] = widened(bits[i]!);
  return new Float32Array(words.buffer);
}

/** Numbers as halves; beyond float32 they are rounded to that first. */
export function narrow(values: ArrayLike<number>, half: Half): Uint16Array {
  const { buffer, byteOffset, length } = values instanceof Float32Array
    ? values
    : Float32Array.from(values);
  const words = new Uint32Array(buffer, byteOffset, length);
  const out = new Uint16Array(length);
  const narrowed = half === "bf16" ? narrowBF16 : narrowF16;
  for (let i = 0; i < length; i++) out[i] = narrowed(words[i]!);
  return out;
}

/** The bits of one number. */
export function bitsOf(value: number, half: Half): number {
  return narrow([value], half)[0]!;
}

/** A number as a half has it. */
export function rounded(value: number, half: Half): number {
  return widen([bitsOf(value, half)], half)[0]!;
}

function widenF16(bits: number): number {
  const sign = (bits & 0x8000) << 16;
  const exponent = bits >> 10 & 31, fraction = bits & 0x3ff;
  if (exponent === 31) return sign | 0x7f800000 | fraction << 13;
  if (exponent > 0) return sign | exponent + 112 << 23 | fraction << 13;
  if (fraction === 0) return sign;
  // A subnormal: fraction · 2^-24, with its first set bit moved to where it is left out.
  const shift = Math.clz32(fraction) - 21;
  return sign | 113 - shift << 23 | (fraction << shift & 0x3ff) << 13;
}

function narrowF16(word: number): number {
  const sign = word >>> 16 & 0x8000, size = word & 0x7fffffff;
  if (size > 0x7f800000) return sign | 0x7e00;
  if (size >= 0x38800000) {
    const near = size - 0x38000000 + 0xfff + (size >>> 13 & 1) >>> 13;
    return sign | Math.min(near, 0x7c00);
  }
  // Below 2^-14, in units of 2^-24; of less than half a unit nothing is left.
  const shift = Math.min(126 - (size >>> 23), 25);
  const fraction = size & 0x7fffff | 0x800000;
  const even = fraction >>> shift & 1;
  return sign | fraction + (1 << shift - 1) - 1 + even >>> shift;
}

function narrowBF16(word: number): number {
  const sign = word >>> 16 & 0x8000, size = word & 0x7fffffff;
  if (size > 0x7f800000) return sign | 0x7fc0;
  return sign | size + 0x7fff + (size >>> 16 & 1) >>> 16;
}
