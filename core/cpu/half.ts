/**
 * Halves in vector code: the bits of four of them in the lanes of a vector, and the floats that they stand for.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { bitsOf, type Half } from "../half.ts";
import type { Lanes, Vec } from "./lanes.ts";
import { f32x4, i32x4, v128 } from "./opcodes.ts";

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
  const zero = v.integer(0);
  const four = (first: number): Vec => {
    const bytes = [0, 2, 4, 6].flatMap((i) => {
      const at = first + i;
      return [16 + at, 17 + at, at, at + 1];
    });
    v.code.get(halves.local, zero.local).op(v128.shuffle, ...bytes);
    return widenHigh(v, v.pop(), half);
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
