/**
 * Halves in vector code: the bits of four of them in the lanes of a vector, and the floats that they stand for.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { bitsOf, type Half } from "../half.ts";
import type { Lanes, Vec } from "./lanes.ts";
import { f32x4, i16x8, i32x4, v128 } from "./opcodes.ts";

/** Halves as floats. */
export function widen(v: Lanes, bits: Vec, half: Half): Vec {
  return widenHigh(v, v.shift(i32x4.shl, bits, 16), half);
}

/** Halves in the upper bits of lanes, above zeros, as floats. */
function widenHigh(v: Lanes, bits: Vec, half: Half): Vec {
  if (half === "bf16") return bits;
  // The copies of the sign that a shift leaves above the exponent go.
  const small = v.i32(v128.and, v.shift(i32x4.shrS, bits, 3), 0x8fffe000);
  // The exponent's bias goes from 15 to 127 by a product, which makes subnormals normal as well.
  const scaled = v.f32(f32x4.mul, small, 2 ** 112);
  const size = v.i32(v128.and, bits, 0x7fffffff);
  const isEndless = v.i32(i32x4.gtS, size, 0x7bffffff);
  return v.i32(v128.or, scaled, v.i32(v128.and, isEndless, 0x7f800000));
}

/** Eight halves side by side as floats: the first four, and the others. */
export function widenEight(v: Lanes, halves: Vec, half: Half): [Vec, Vec] {
  return half === "bf16"
    ? interleaved(v, v.integer(0), halves)
    : widenEightF16(v, halves);
}

/**
 * Words of floats from their lower and upper halves. Exponents of 0 and of 31 are mended where there are any: a product
 * as in `widenHigh` takes a hundred times as long where it meets a subnormal.
 */
function widenEightF16(v: Lanes, halves: Vec): [Vec, Vec] {
  const twice = (word: number) => v.integer(word * 0x10001);
  const small = v.i32(
    v128.and,
    v.shift(i16x8.shrS, halves, 3),
    twice(0x8fff),
  );
  // The exponent's bias goes from 15 to 127.
  const upper = v.i32(i16x8.add, small, twice(112 << 7));
  const both = interleaved(v, v.shift(i16x8.shl, halves, 13), upper);
  // Without the sign, and so far on that exponents of 0 follow those of 31 at the upper end.
  const size = v.i32(
    i16x8.add,
    v.i32(i16x8.add, halves, halves),
    twice(0x7800),
  );
  v.code.get(v.i32(i16x8.gtS, size, twice(0x6fff)).local).op(v128.anyTrue);
  v.code.if(() =>
    both.forEach((x) => v.code.scope(() => v.assign(x, mended(v, x))))
  );
  return both;
}

/** The floats of f16 whose exponents were moved by 112 whatever they are. */
function mended(v: Lanes, x: Vec): Vec {
  const exponent = v.i32(v128.and, x, 0x7f800000);
  const sign = v.i32(v128.and, x, -0x80000000);
  // A subnormal has no 1 before its point, and the exponent of the least normal.
  const more = v.i32(i32x4.add, x, 1 << 23);
  const one = v.i32(v128.or, sign, 113 << 23);
  const subnormal = v.i32(v128.or, v.f32(f32x4.sub, more, one), sign);
  const endless = v.i32(i32x4.add, x, 112 << 23);
  const isSubnormal = v.i32(i32x4.eq, exponent, 112 << 23);
  const isEndless = v.i32(i32x4.eq, exponent, 143 << 23);
  return v.select(isSubnormal, subnormal, v.select(isEndless, endless, x));
}

/** Words whose lower and upper halves are side by side in two vectors: the first four, and the others. */
export function interleaved(v: Lanes, lower: Vec, upper: Vec): [Vec, Vec] {
  const four = (first: number): Vec => {
    const bytes = [0, 2, 4, 6].flatMap((i) => {
      const at = first + i;
      return [at, at + 1, 16 + at, 17 + at];
    });
    v.code.get(lower.local, upper.local).op(v128.shuffle, ...bytes);
    return v.pop();
  };
  return [four(0), four(8)];
}

/** Floats as halves, rounded to the nearest, ties to even. */
export function narrow(v: Lanes, x: Vec, half: Half): Vec {
  const sign = v.i32(v128.and, v.shift(i32x4.shrU, x, 16), 0x8000);
  const size = v.i32(v128.and, x, 0x7fffffff);
  const bits = half === "bf16" ? cut(v, size, 16) : narrowF16(v, size);
  const nan = v.integer(bitsOf(NaN, half));
  const isNaN = v.i32(i32x4.gtS, size, 0x7f800000);
  return v.i32(v128.or, v.select(isNaN, nan, bits), sign);
}

function narrowF16(v: Lanes, size: Vec): Vec {
  const scaled = v.i32(i32x4.sub, size, 0x38000000);
  const normal = v.i32(i32x4.minS, cut(v, scaled, 13), 0x7c00);
  // Beside a half the last bit of a float is worth as much as that of a subnormal f16.
  const beside = v.f32(f32x4.add, size, 0.5);
  const subnormal = v.i32(i32x4.sub, beside, 0x3f000000);
  const isNormal = v.i32(i32x4.gtS, size, 0x387fffff);
  return v.select(isNormal, normal, subnormal);
}

/** Integers without their last bits, rounded. */
function cut(v: Lanes, x: Vec, count: number): Vec {
  const odd = v.i32(v128.and, v.shift(i32x4.shrU, x, count), 1);
  const most = v.i32(i32x4.add, x, 2 ** (count - 1) - 1);
  return v.shift(i32x4.shrU, v.i32(i32x4.add, most, odd), count);
}
