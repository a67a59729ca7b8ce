/**
 * Angles as quarter turns and a rest that is right to the last bit of a float, whatever their size.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Lanes, Vec } from "./lanes.ts";
import { f32x4, f64x2, i32x4, i64x2, i8x16, v128 } from "./opcodes.ts";

/** An angle q·π/2 + r. */
export interface Angle {
  /** Quarter turns, of which the two lowest bits count. */
  readonly q: Vec;
  /** The rest, from about -π/4 to π/4. */
  readonly r: Vec;
}

const ROUNDER = 1.5 * 2 ** 23; // as in vector_math.ts

/** Below it there are at most 2¹¹ quarter turns. */
const NEAR = 3200;

// π/2 in parts whose products with numbers up to 2¹¹ are exact floats but for the last (Cody and Waite 1980).
const HALF_PI = [
  0xc90 * 2 ** -11,
  0xfda * 2 ** -23,
  0x511 * 2 ** -34,
  2.563344151594519e-12,
];

// 2/π · 2²³⁸ in big-endian bytes, of which the first are 0, as two vectors of little-endian words.
const TWO_OVER_PI = [
  [0xbe280000, 0x9193db60, 0x097f4a05, 0x4d7df4d5],
  [0xd8367037, 0x104f66a5, 0x947f10e4, 0xaef7ea58],
] as const;

/** The angle of x from 0 on; r is NaN where x is infinite or NaN. */
export function angleOf(v: Lanes, x: Vec): Angle {
  const [q, r] = [v.variable(), v.variable()];
  v.code.scope(() => {
    const near = nearAngle(v, x);
    v.assign(q, near.q);
    v.assign(r, near.r);
  });
  // As integers, NaN is the largest.
  const isFar = v.i32(i32x4.gtS, x, v.float(NEAR));
  v.code.get(isFar.local).op(v128.anyTrue).if(() =>
    v.code.scope(() => {
      const far = farAngle(v, x);
      v.assign(q, v.select(isFar, far.q, q));
      v.assign(r, v.select(isFar, far.r, r));
    })
  );
  return { q, r };
}

function nearAngle(v: Lanes, x: Vec): Angle {
  const q = v.madd(x, 2 / Math.PI, ROUNDER);
  const n = v.f32(f32x4.sub, q, ROUNDER);
  const r = HALF_PI.reduce((rest, part) => v.nmadd(n, part, rest), x);
  return { q, r };
}

/**
 * x = m·2ᵏ times those 96 bits of 2/π that count, in whole numbers (Payne and Hanek 1983): bits of more than four
 * quarter turns are left out, and what comes behind is less than the last bit of the product.
 */
function farAngle(v: Lanes, x: Vec): Angle {
  const k = v.i32(i32x4.sub, v.shift(i32x4.shrU, x, 23), 134);
  // A window begins at a byte; the bits that it is off go into the factor, which is made as a float.
  const bits = v.i32(i32x4.add, v.i32(v128.and, k, 7), 150);
  const wide = v.i32(
    v128.or,
    v.i32(v128.and, x, 0x7fffff),
    v.shift(i32x4.shl, bits, 23),
  );
  const factor = v.i32(i32x4.truncSatS, wide);
  const byte = v.i32(i32x4.mul, v.shift(i32x4.shrS, k, 3), 0x01010101);
  const [high, middle, low] = [0, 1, 2].map((word) => {
    const index = v.i32(i32x4.add, byte, 0x00010203 + 0x04040404 * word);
    const beyond = v.i32(i8x16.add, index, 0xf0f0f0f0);
    const [first, second] = TWO_OVER_PI.map((words) => v.integer(...words));
    // An index of 16 or more gives 0.
    return v.i32(
      v128.or,
      v.i32(i8x16.swizzle, first!, index),
      v.i32(i8x16.swizzle, second!, beyond),
    );
  }) as [Vec, Vec, Vec];
  // The upper 64 bits of the lower 96 of the product: quarter turns above, a fraction below.
  const products = [i64x2.extmulLowU, i64x2.extmulHighU].map((multiply) => {
    const sum = v.i32(
      i64x2.add,
      v.i32(multiply, factor, middle),
      v.shift(i64x2.shrU, v.i32(multiply, factor, low), 32),
    );
    const top = v.shift(i64x2.shl, v.i32(multiply, factor, high), 32);
    return v.i32(i64x2.add, sum, top);
  });
  const words = products.map((product) => {
    // Signed, so that the rest is the distance from the nearest whole number of quarter turns.
    const half = v.integer(0, 2 ** 29, 0, 2 ** 29);
    const turns = v.shift(
      i64x2.shrU,
      v.i32(i64x2.add, product, half),
      62,
    );
    const rest = v.shift(i64x2.shl, product, 2);
    const upper = v.shuffle(rest, rest, [1, 3, 1, 3]);
    const lower = v.shuffle(rest, rest, [0, 2, 0, 2]);
    const fraction = v.f64(
      f64x2.add,
      v.f64(f64x2.convertLowS, upper),
      v.f64(f64x2.mul, v.f64(f64x2.convertLowU, lower), 2 ** -32),
    );
    const r = v.f64(f64x2.mul, fraction, Math.PI * 2 ** -33);
    return { turns, r: v.f64(f32x4.demote, r) };
  }) as [{ turns: Vec; r: Vec }, { turns: Vec; r: Vec }];
  const q = v.shuffle(words[0].turns, words[1].turns, [0, 2, 4, 6]);
  const r = v.shuffle(words[0].r, words[1].r, [0, 1, 4, 5]);
  // x - x is NaN for what is not finite.
  return { q, r: v.f32(f32x4.add, r, v.f32(f32x4.sub, x, x)) };
}
