/**
 * Elementary functions on four floats at once, each within a few units in the last place.
 *
 * Coefficients are minimax fits of relative error over the reduced ranges (Remez; for the two rational functions
 * Lawson's weighting), made for this file.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Lanes, Operand, Vec } from "./lanes.ts";
import { f32x4, f64x2, i32x4, v128 } from "./opcodes.ts";

const { add, sub, mul, div, abs, eq, lt, gt, pmin, pmax } = f32x4;
const LN2_HIGH = 0.693359375; // 9 bits, so that its product with an exponent is exact
const LN2_LOW = Math.LN2 - LN2_HIGH;
const SIGN = 0x80000000;
const ONE = 0x3f800000;
// Adding 1.5·2²³ rounds a float to an integer and leaves the integer in its low bits.
const ROUNDER = 1.5 * 2 ** 23;
const ROUNDER_BITS = 0x4b400000;
const WIDER = 1.5 * 2 ** 52; // the same for a double
const MAX = (2 - 2 ** -23) * 2 ** 127;

const EXP = [
  0.49999993432070905,
  0.16666520400170143,
  0.04166838883774011,
  0.008368745030573414,
  0.0013814536221751384,
];
const EXP2 = [
  0.6931472028807903,
  0.24022647910196512,
  0.05550332409719487,
  0.009618437614533243,
  0.0013398900187205234,
  0.0001535333921595792,
];
const LOG = [
  0.3333331260719363,
  -0.2500000960755495,
  0.20002118475482336,
  -0.16667995287569493,
  0.1421955524323648,
  -0.1240560029408925,
  0.11888154465222474,
  -0.11675583474772686,
  0.06746573224040353,
];
const LOG2 = [
  2.88539008177785,
  0.9617966941133996,
  0.5770779423471722,
  0.41220925428023647,
  0.3199056140055312,
  0.2829014139780766,
];
const SIN = [
  -0.16666654573730982,
  0.008332158437340472,
  -0.00019514960629998343,
];
const COS = [0.04166664561898579, -0.001388731307031345, 2.44327858472881e-05];
const TANH_TOP = [
  1,
  0.13379716873168945,
  0.003494034055620432,
  2.0583471268764697e-05,
  1.331905963297686e-08,
];
const TANH_BOTTOM = [
  1,
  0.4671303331851959,
  0.025871070101857185,
  0.00032830919371917844,
  7.762014320178423e-07,
];
const ERF_TOP = [
  1.1283791065216064,
  0.19154828786849976,
  0.05287519469857216,
  0.003808080917224288,
  0.0002846869174391031,
  2.025934918492567e-06,
];
const ERF_BOTTOM = [
  1,
  0.5030879378318787,
  0.11455880105495453,
  0.015054925344884396,
  0.0011707082157954574,
  3.7832040106877685e-05,
];

/** eˣ. */
export function exp(v: Lanes, x: Vec): Vec {
  const y = v.variable();
  const power = (x: Vec): { p: Vec; rounded: Vec } => {
    const { rounded, r } = reduceByLn2(v, x);
    const square = v.f32(mul, r, r);
    const p = v.f32(add, v.madd(square, v.polynomial(r, EXP), r), 1);
    return { p, rounded };
  };
  const whole = () => {
    const { p, rounded } = power(clamp(v, x, -105, 89));
    v.assign(y, scale(v, p, rounded));
  };
  // Where the result is a normal number its exponent is added as bits: three quarters of the time.
  const within = () => {
    const { p, rounded } = power(x);
    v.assign(y, v.i32(i32x4.add, p, v.shift(i32x4.shl, rounded, 23)));
  };
  // As integers, NaN is the largest.
  const isFar = v.i32(i32x4.gtS, v.f32(abs, x), v.float(87));
  v.code.get(isFar.local).op(v128.anyTrue);
  v.code.if(() => v.code.scope(whole), () => v.code.scope(within));
  return y;
}

/** eˣ - 1, exact near 0. */
export function expm1(v: Lanes, x: Vec): Vec {
  const { n, rounded, r } = reduceByLn2(v, clamp(v, x, -18, 89));
  const p = v.madd(v.f32(mul, r, r), v.polynomial(r, EXP), r);
  // 2ⁿ(p + 1) - 1 = 2·(2ⁿ⁻¹·p + (2ⁿ⁻¹ - ½)), which does not overflow too early
  const exponent = v.shift(i32x4.shl, rounded, 23);
  const half = v.i32(i32x4.add, exponent, ONE - (1 << 23));
  const y = v.madd(half, p, v.f32(sub, half, 0.5));
  const small = v.f32(eq, n, 0);
  return v.select(small, p, v.f32(add, y, y));
}

/** Natural logarithm. */
export function log(v: Lanes, x: Vec): Vec {
  const { e, f } = splitExponent(v, x);
  const square = v.f32(mul, f, f);
  const tail = v.f32(mul, v.f32(mul, square, f), v.polynomial(f, LOG));
  const low = v.madd(square, -0.5, v.madd(e, LN2_LOW, tail));
  const y = v.madd(e, LN2_HIGH, v.f32(add, f, low));
  return logEdges(v, x, y);
}

/** log(1 + x), exact near 0. */
export function log1p(v: Lanes, x: Vec): Vec {
  const u = v.f32(add, x, 1);
  // What rounding took from u, over u, is what it took from log u.
  const lost = v.f32(div, v.f32(sub, x, v.f32(sub, u, 1)), u);
  const known = v.f32(v128.and, lost, v.f32(eq, lost, lost));
  return v.f32(add, log(v, u), known);
}

/** Sine; beyond |x| = 10⁶ slowly less accurate. */
export function sin(v: Lanes, x: Vec): Vec {
  return sinOfQuadrant(v, x, 0);
}

/** Cosine; beyond |x| = 10⁶ slowly less accurate. */
export function cos(v: Lanes, x: Vec): Vec {
  return sinOfQuadrant(v, x, 1);
}

/** Hyperbolic tangent. */
export function tanh(v: Lanes, x: Vec): Vec {
  return saturating(v, x, 9.02, TANH_TOP, TANH_BOTTOM);
}

/** Error function. */
export function erf(v: Lanes, x: Vec): Vec {
  return saturating(v, x, 3.95, ERF_TOP, ERF_BOTTOM);
}

/** aᵇ by C99's rules. */
export function pow(v: Lanes, a: Vec, b: Vec): Vec {
  const { e, f } = splitExponent(v, v.f32(abs, a));
  const edge = logEdges(v, v.f32(abs, a), v.float(0));
  const finite = clamp(v, b, -MAX, MAX);
  // b·log2|a| in double precision: its error is an error of the result times up to 150.
  const halves = [0, 2].map((first) => {
    const wide = (x: Vec) => {
      const pair = first === 0 ? x : v.shuffle(x, x, [2, 3, 2, 3]);
      return v.f64(f64x2.promoteLow, pair);
    };
    const m = wide(f);
    const s = v.f64(f64x2.div, m, v.f64(f64x2.add, m, 2));
    const s2 = v.f64(f64x2.mul, s, s);
    const series = LOG2.slice(0, -1).reduceRight<Operand>(
      (sum, c) => v.f64(f64x2.add, v.f64(f64x2.mul, sum, s2), c),
      LOG2.at(-1)!,
    );
    const log2 = v.f64(f64x2.add, v.f64(f64x2.mul, series, s), wide(e));
    const y = v.f64(
      f64x2.mul,
      v.f64(f64x2.add, log2, wide(edge)),
      wide(finite),
    );
    const bounded = v.f64(f64x2.pmax, v.f64(f64x2.pmin, y, 200), -200);
    const n = v.f64(f64x2.sub, v.f64(f64x2.add, bounded, WIDER), WIDER);
    const rest = v.f64(f64x2.sub, bounded, n);
    return [n, rest].map((d) => v.f64(f32x4.demote, d));
  });
  const [n, r] = [0, 1].map((i) =>
    v.shuffle(halves[0]![i]!, halves[1]![i]!, [0, 1, 4, 5])
  );
  const power = v.madd(v.polynomial(r!, EXP2), r!, 1);
  return powEdges(v, a, b, scale(v, power, v.f32(add, n!, ROUNDER)));
}

/** aᵇ of integers, wrapping; 0 for what is smaller than 1. */
export function integerPow(v: Lanes, a: Vec, b: Vec, signed: boolean): Vec {
  const [result, square, rest] = [v.variable(), v.variable(), v.variable()];
  v.assign(result, v.integer(1));
  v.assign(square, a);
  v.assign(rest, b);
  v.code.while(() => v.code.get(rest.local).op(v128.anyTrue), () => {
    const odd = v.i32(i32x4.ne, v.i32(v128.and, rest, 1), 0);
    const product = v.i32(i32x4.mul, result, square);
    v.assign(result, v.select(odd, product, result));
    v.assign(square, v.i32(i32x4.mul, square, square));
    v.assign(rest, v.shift(i32x4.shrU, rest, 1));
  });
  if (!signed) return result;
  const unit = v.i32(i32x4.eq, v.i32(i32x4.abs, a), 1);
  const fraction = v.i32(v128.andnot, v.i32(i32x4.ltS, b, 0), unit);
  return v.i32(v128.andnot, result, fraction);
}

/** x within bounds; NaN stays. */
function clamp(v: Lanes, x: Vec, low: number, high: number): Vec {
  return v.f32(pmax, v.f32(pmin, x, high), low);
}

/** x = n·ln 2 + r with |r| ≤ ½ ln 2; the low bits of `rounded` are n. */
function reduceByLn2(
  v: Lanes,
  x: Vec,
): { n: Vec; rounded: Vec; r: Vec } {
  const rounded = v.madd(x, Math.LOG2E, ROUNDER);
  const n = v.f32(sub, rounded, ROUNDER);
  const r = v.nmadd(n, LN2_LOW, v.nmadd(n, LN2_HIGH, x));
  return { n, rounded, r };
}

/** x·2ⁿ where the low bits of `rounded` are n, up to 129: in two steps, for the ends of the range. */
function scale(v: Lanes, x: Vec, rounded: Vec): Vec {
  const whole = v.shift(i32x4.shl, rounded, 23);
  const half = v.i32(
    v128.and,
    v.shift(i32x4.shl, rounded, 22),
    -(1 << 23),
  );
  const first = v.i32(i32x4.add, half, ONE);
  const second = v.i32(i32x4.add, v.i32(i32x4.sub, whole, half), ONE);
  // A product that underflows takes a hundred cycles, and masked attention is full of them: multiply by 0 instead.
  const alive = v.i32(i32x4.gtS, rounded, ROUNDER_BITS - 151);
  return v.f32(mul, v.f32(mul, x, first), v.i32(v128.and, second, alive));
}

/** x = 2ᵉ·(1 + f) with 1 + f from √½ to √2, for positive finite x. */
function splitExponent(v: Lanes, x: Vec): { e: Vec; f: Vec } {
  const denormal = v.f32(lt, x, 2 ** -126);
  const normal = v.select(denormal, v.f32(mul, x, 2 ** 23), x);
  const ROOT_HALF = 0x3f3504f3;
  const offset = v.i32(i32x4.sub, normal, ROOT_HALF);
  const exponent = v.shift(i32x4.shrS, offset, 23);
  const mantissa = v.i32(
    i32x4.add,
    v.i32(v128.and, offset, 0x7fffff),
    ROOT_HALF,
  );
  const e = v.f32(
    add,
    v.f32(f32x4.convertS, exponent),
    v.f32(v128.and, denormal, -23),
  );
  return { e, f: v.f32(sub, mantissa, 1) };
}

/** The logarithm y of x where x is positive and finite; -∞ at 0, ∞ at ∞, NaN below 0 and at NaN. */
function logEdges(v: Lanes, x: Vec, y: Vec): Vec {
  const inside = v.f32(
    v128.and,
    v.f32(gt, x, 0),
    v.f32(lt, x, Infinity),
  );
  // All bits set is a NaN.
  const unlessInfinite = v.f32(v128.or, x, v.f32(f32x4.ne, x, Infinity));
  const outside = v.select(v.f32(eq, x, 0), -Infinity, unlessInfinite);
  return v.select(inside, y, outside);
}

/** sin(x + quadrant·π/2). */
function sinOfQuadrant(v: Lanes, x: Vec, quadrant: number): Vec {
  // 33 bits of π/2, so that products with up to 2²⁰ are exact doubles, and the rest.
  const HIGH = 1.5707963267341256, LOW = 6.077100506506192e-11;
  const [low, high] = [x, v.shuffle(x, x, [2, 3, 2, 3])].map((pair) => {
    const wide = v.f64(f64x2.promoteLow, pair);
    const turns = v.f64(f64x2.mul, wide, 2 / Math.PI);
    const rounded = v.f64(f64x2.add, turns, WIDER);
    const n = v.f64(f64x2.sub, rounded, WIDER);
    const once = v.f64(f64x2.sub, wide, v.f64(f64x2.mul, n, HIGH));
    const twice = v.f64(f64x2.sub, once, v.f64(f64x2.mul, n, LOW));
    return { rounded, r: v.f64(f32x4.demote, twice) };
  }) as [{ rounded: Vec; r: Vec }, { rounded: Vec; r: Vec }];
  const r = clamp(v, v.shuffle(low.r, high.r, [0, 1, 4, 5]), -0.8, 0.8);
  const q = v.i32(
    i32x4.add,
    v.shuffle(low.rounded, high.rounded, [0, 2, 4, 6]),
    quadrant,
  );
  const r2 = v.f32(mul, r, r);
  const sine = v.madd(v.f32(mul, r2, r), v.polynomial(r2, SIN), r);
  const cosine = v.madd(
    v.f32(mul, r2, r2),
    v.polynomial(r2, COS),
    v.madd(r2, -0.5, 1),
  );
  const odd = v.i32(i32x4.ne, v.i32(v128.and, q, 1), 0);
  const y = v.select(odd, cosine, sine);
  const sign = v.i32(v128.and, v.shift(i32x4.shl, q, 30), SIGN);
  return v.i32(v128.xor, y, sign);
}

/** x·top(x²) / bottom(x²), which reaches ±1 at ±end. */
function saturating(
  v: Lanes,
  x: Vec,
  end: number,
  top: readonly number[],
  bottom: readonly number[],
): Vec {
  const near = clamp(v, x, -end, end);
  const square = v.f32(mul, near, near);
  const numerator = v.f32(mul, near, v.polynomial(square, top));
  const y = v.f32(div, numerator, v.polynomial(square, bottom));
  return clamp(v, y, -1, 1);
}

/** What aᵇ is where |a|ᵇ = y does not tell. */
function powEdges(v: Lanes, a: Vec, b: Vec, y: Vec): Vec {
  const { floor } = f32x4;
  const half = v.f32(mul, b, 0.5);
  const even = v.f32(eq, v.f32(floor, half), half);
  const whole = v.f32(eq, v.f32(floor, b), b);
  const odd = v.f32(v128.andnot, whole, even);
  const flip = v.i32(v128.and, v.f32(v128.and, a, odd), SIGN);
  const negative = v.f32(v128.and, v.f32(lt, a, 0), v.f32(gt, a, -Infinity));
  const complex = v.f32(v128.andnot, negative, whole);
  const real = v.f32(v128.or, v.f32(v128.xor, y, flip), complex);
  const one = v.f32(v128.or, v.f32(eq, a, 1), v.f32(eq, b, 0));
  return v.select(one, 1, real);
}
