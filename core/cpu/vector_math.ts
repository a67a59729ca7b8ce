/**
 * Elementary functions on four floats at once.
 *
 * Over all floats, subnormal and infinite ones included, and with fused multiply-add or without, results are within so
 * many units in the last place: log 1, exp 1.5, expm1, log1p and pow 2, sin and cos 2.5, tanh and erf 3. Zeros have the
 * signs that C99 gives them.
 *
 * Coefficients are minimax fits over the reduced ranges, of relative error or of what becomes of it in the result, by
 * Remez or by Lawson's weighting, made for this file and rounded to floats one after another.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { angleOf } from "./angle.ts";
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
// The same with the bias of exponents, so that a shift makes 2ⁿ of n.
const BIASED_ROUNDER = ROUNDER + 127;
const WIDER = 1.5 * 2 ** 52; // as ROUNDER, for a double
const MAX = (2 - 2 ** -23) * 2 ** 127;

const EXP = [
  0.49999993432070905,
  0.16666520400170143,
  0.04166838883774011,
  0.008368745030573414,
  0.0013814536221751384,
];
const EXP2 = [
  0.6931471824645996,
  0.24022649228572845,
  0.05550367385149002,
  0.009618309326469898,
  0.0013387395301833749,
  0.0001538288197480142,
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
const TANH = [-0.3333126902580261, 0.13110476732254028];
const ERFC = [
  1.6279070377349854,
  -0.9184457063674927,
  0.1483086198568344,
  0.02780129387974739,
  0.00017956402734853327,
  -0.001896802568808198,
  -0.000583240354899317,
  -6.342951382976025e-05,
];

/** eˣ. */
export function exp(v: Lanes, x: Vec): Vec {
  return exps(v, [x])[0]!;
}

/** eˣ of several vectors, with one test of whether all results are normal numbers. */
export function exps(v: Lanes, xs: readonly Vec[]): Vec[] {
  const ys = xs.map(() => v.variable());
  /** eʳ - 1 of what is left of x, whose rounded quotient has `rounder` added. */
  const rest = (x: Vec, rounder: number): { less: Vec; rounded: Vec } => {
    const { rounded, r } = reduceByLn2(v, x, rounder);
    const square = v.f32(mul, r, r);
    return { less: v.madd(square, pairwise(v, r, square, EXP), r), rounded };
  };
  const each = (value: (x: Vec) => Vec) => () =>
    ys.forEach((y, i) => v.code.scope(() => v.assign(y, value(xs[i]!))));
  const whole = (x: Vec): Vec => {
    const { less, rounded } = rest(clamp(v, x, -105, 89), ROUNDER);
    return scale(v, v.f32(add, less, 1), rounded);
  };
  // Where 2ⁿ and the result are normal numbers: two thirds of the time.
  const within = (x: Vec): Vec => {
    const { less, rounded } = rest(x, BIASED_ROUNDER);
    const power = v.shift(i32x4.shl, rounded, 23);
    return v.madd(power, less, power);
  };
  // As integers, NaN is the largest of these.
  const farthest = xs.map((x) => v.f32(abs, x)).reduce((a, b) =>
    v.i32(i32x4.maxS, a, b)
  );
  const isFar = v.i32(i32x4.gtS, farthest, v.float(87));
  v.code.get(isFar.local).op(v128.anyTrue);
  v.code.if(each(whole), each(within));
  return ys;
}

/** 2ˣ of weights: x above 0 counts as 0, and a result that is not a normal number is 0. NaN stays. */
export function exp2OfWeight(v: Lanes, x: Vec): Vec {
  const near = clamp(v, x, -127, 0);
  const rounded = v.f32(add, near, BIASED_ROUNDER);
  const r = v.f32(sub, near, v.f32(sub, rounded, BIASED_ROUNDER));
  // At -127 its bits are those of 0.
  const power = v.shift(i32x4.shl, rounded, 23);
  return v.f32(mul, power, v.madd(v.polynomial(r, EXP2), r, 1));
}

/** eˣ - 1, exact near 0. */
export function expm1(v: Lanes, x: Vec): Vec {
  const near = clamp(v, x, -18, 89);
  const { n, rounded, r } = reduceByLn2(v, near, BIASED_ROUNDER - 1);
  const square = v.f32(mul, r, r);
  const p = v.madd(square, pairwise(v, r, square, EXP), r);
  // 2ⁿ(p + 1) - 1 = 2·(2ⁿ⁻¹·p + (2ⁿ⁻¹ - ½)), which does not overflow too early
  const half = v.shift(i32x4.shl, rounded, 23);
  const y = v.madd(half, p, v.f32(sub, half, 0.5));
  const small = v.f32(eq, n, 0);
  const result = v.select(small, p, v.f32(add, y, y));
  return v.f32(v128.or, result, signOf(v, x));
}

/** Natural logarithm. */
export function log(v: Lanes, x: Vec): Vec {
  const { e, f } = splitExponent(v, x);
  const square = v.f32(mul, f, f);
  const tail = v.f32(mul, v.f32(mul, square, f), pairwise(v, f, square, LOG));
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
  return v.f32(v128.or, v.f32(add, log(v, u), known), signOf(v, x));
}

/** Sine. */
export function sin(v: Lanes, x: Vec): Vec {
  const { q, r } = angleOf(v, v.f32(abs, x));
  return v.i32(v128.xor, sinOfAngle(v, q, r), signOf(v, x));
}

/** Cosine. */
export function cos(v: Lanes, x: Vec): Vec {
  const { q, r } = angleOf(v, v.f32(abs, x));
  return sinOfAngle(v, v.i32(i32x4.add, q, 1), r);
}

/** Hyperbolic tangent of n·½ln 2 + r by that of r: tanh(a + b) = (tanh a + tanh b) / (1 + tanh a · tanh b). */
export function tanh(v: Lanes, x: Vec): Vec {
  const size = v.f32(pmin, v.f32(abs, x), 10);
  const rounded = v.madd(size, 2 * Math.LOG2E, BIASED_ROUNDER);
  const n = v.f32(sub, rounded, BIASED_ROUNDER);
  // |n| is below 30: where the product is not exact, the result hardly depends on r.
  const r = v.nmadd(n, Math.LN2 / 2, size);
  const square = v.f32(mul, r, r);
  const tail = v.polynomial(square, TANH);
  const tangent = v.madd(v.f32(mul, square, r), tail, r);
  const power = v.shift(i32x4.shl, rounded, 23);
  const minus = v.f32(sub, power, 1), plus = v.f32(add, power, 1);
  const y = v.f32(
    div,
    v.madd(plus, tangent, minus),
    v.madd(minus, tangent, plus),
  );
  return v.f32(v128.or, y, signOf(v, x));
}

/** Error function: |x|·P(|x|) is the binary logarithm of what it lacks of 1. */
export function erf(v: Lanes, x: Vec): Vec {
  const minus = v.f32(pmax, v.f32(v128.or, x, -0), -3.93);
  const log = v.f32(mul, minus, v.polynomial(minus, ERFC));
  const rounded = v.f32(add, log, BIASED_ROUNDER);
  const r = v.f32(sub, log, v.f32(sub, rounded, BIASED_ROUNDER));
  const power = v.shift(i32x4.shl, rounded, 23);
  const less = v.f32(mul, r, v.polynomial(r, EXP2));
  const y = v.nmadd(power, less, v.f32(sub, 1, power));
  return v.f32(v128.or, y, signOf(v, x));
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

/** A polynomial by Horner's rule in x², of pairs of its terms: as much work in half the time until it is done. */
function pairwise(
  v: Lanes,
  x: Vec,
  square: Vec,
  coefficients: readonly number[],
): Vec {
  const pairs: Operand[] = [];
  for (let i = 0; i < coefficients.length; i += 2) {
    const [even, odd] = coefficients.slice(i, i + 2);
    pairs.push(odd === undefined ? even! : v.madd(x, odd, even!));
  }
  return pairs.reduceRight((sum, pair) => v.madd(sum, square, pair)) as Vec;
}

/** x within bounds; NaN stays. */
function clamp(v: Lanes, x: Vec, low: number, high: number): Vec {
  return v.f32(pmax, v.f32(pmin, x, high), low);
}

/** x = n·ln 2 + r with |r| ≤ ½ ln 2; the low bits of `rounded` are n, and what the rounder adds. */
function reduceByLn2(
  v: Lanes,
  x: Vec,
  rounder = ROUNDER,
): { n: Vec; rounded: Vec; r: Vec } {
  const rounded = v.madd(x, Math.LOG2E, rounder);
  const n = v.f32(sub, rounded, rounder);
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

/** ±sin or cos of what is left of an angle, by its quarter turns. */
function sinOfAngle(v: Lanes, q: Vec, r: Vec): Vec {
  const r2 = v.f32(mul, r, r);
  const sine = v.madd(v.f32(mul, r2, r), v.polynomial(r2, SIN), r);
  const cosine = v.madd(
    v.f32(mul, r2, r2),
    v.polynomial(r2, COS),
    v.madd(r2, -0.5, 1),
  );
  const odd = v.i32(i32x4.ne, v.i32(v128.and, q, 1), 0);
  const y = v.select(odd, cosine, sine);
  return v.i32(v128.xor, y, signOf(v, v.shift(i32x4.shl, q, 30)));
}

function signOf(v: Lanes, x: Vec): Vec {
  return v.i32(v128.and, x, SIGN);
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
