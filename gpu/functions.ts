/**
 * Scalar functions in WGSL. The built-in ones promise too little: `tanh` and `sin` may be far off, and compilers may
 * take it that no value is NaN, so that NaN is told by its bits here.
 *
 * WGSL bounds no error of what these are made of. Measured on a software adapter normal results are within 2.5 units in
 * the last place; those of sine and cosine up to |x| = 1000, and within 2e-7 up to 10⁶.
 *
 * In the texts F, I, U, B stand for f32, i32, u32, bool or their vectors of four, and `_W` for the suffix of the width.
 *
 * This module is browser compatible.
 *
 * @module
 */

/** Four neighbours along an axis, or one point. */
export type Width = 1 | 4;

/** The WGSL type of a value. */
export const typeNames = {
  1: { F: "f32", I: "i32", U: "u32", B: "bool" },
  4: { F: "vec4f", I: "vec4i", U: "vec4u", B: "vec4<bool>" },
} as const;

/** Names of the functions below. */
export type FunctionName = keyof typeof functions;

/** The functions and all that they call, at one width; callees first. */
export function functionTexts(
  names: Iterable<FunctionName>,
  width: Width,
): string[] {
  const texts = new Map<string, string>();
  const add = (name: FunctionName): void => {
    if (texts.has(name)) return;
    const text = functions[name];
    for (const [, callee] of text.matchAll(/(\w+)_W\(/g)) {
      if (callee !== name) add(callee as FunctionName);
    }
    texts.set(name, atWidth(text, width));
  };
  for (const name of names) add(name);
  return [...texts.values()];
}

/** A text with its type letters and suffixes filled in. */
export function atWidth(text: string, width: Width): string {
  return text
    .replace(/\b[FIUB]\b/g, (letter) => {
      return typeNames[width][letter as "F" | "I" | "U" | "B"];
    })
    .replaceAll("_W(", `_${width}(`);
}

/** Horner's scheme, coefficients from the highest power down. */
function polynomial(x: string, coefficients: readonly number[]): string {
  const [first, ...rest] = coefficients.map((c) => `F(${c})`);
  return rest.reduce((p, c) => `fma(${p}, ${x}, ${c})`, first!);
}

// exp(x) = 2^n · exp(r) with n whole and |r| ≤ ln 2 / 2, as in Cephes (Moshier); n · 0.693359375 is exact.
const reduceExp = `
  let n = floor(c * 1.44269504 + 0.5);
  let r = (c - n * 0.693359375) + n * 2.12194440e-4;
  let q = fma(${
  polynomial("r", [
    1.9875691500e-4,
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    1.6666665459e-1,
    5.0000001201e-1,
  ])
} * r, r, r);`;

// The quadrant q and the rest r of x = q · π/2 + r. The first three parts of π/2 have 8 bits each: their products with
// halves of q are exact for |x| up to 1e6, whether the device fuses multiply and add or not (Cody and Waite). A second
// round takes what the first has rounded to a neighbour.
const reduceAngle = `
  let n = floor(x * 0.636619772 + 0.5);
  let high = 2048.0 * trunc(n * 0.00048828125);
  let low = n - high;
  let once = (x - high * 1.5703125) - low * 1.5703125;
  let twice = (once - high * 4.825592041015625e-4) - low * 4.825592041015625e-4;
  let rest = (twice - n * 1.26659870147705078125e-6) - n * 9.920935184482005e-10;
  let m = floor(rest * 0.636619772 + 0.5);
  let near = (rest - m * 1.5703125) - m * 4.838267953e-4;
  let r = select(clamp(near, F(-0.8), F(0.8)), near, is_nan_W(near));
  let q = I((n - 4.0 * floor(n * 0.25)) + m) & I(3);
  let s = r * r;
  let sine = fma(${
  polynomial("s", [-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1])
} * s, r, r);
  let cosine = fma(${
  polynomial("s", [
    2.443315711809948e-5,
    -1.388731625493765e-3,
    4.166664568298827e-2,
  ])
}, s * s, fma(s, F(-0.5), F(1.0)));`;

const functions = {
  is_nan: `fn is_nan_W(x: F) -> B {
  return (bitcast<U>(x) & U(0x7fffffffu)) > U(0x7f800000u);
}`,

  maximum: `fn maximum_W(a: F, b: F) -> F {
  return select(select(max(a, b), b, is_nan_W(b)), a, is_nan_W(a));
}`,

  minimum: `fn minimum_W(a: F, b: F) -> F {
  return select(select(min(a, b), b, is_nan_W(b)), a, is_nan_W(a));
}`,

  sign: `fn sign_W(x: F) -> F {
  return select(sign(x), x, is_nan_W(x));
}`,

  // 2^n comes in two factors, since alone it would overflow or underflow before the product does. What comes out as 0,
  // as in a masked softmax, goes around the subnormal numbers: processors take a hundred times as long for those.
  exp: `fn exp_W(x: F) -> F {
  let none = x < F(-104.0);
  let c = select(min(x, F(89.0)), F(0.0), none);${reduceExp}
  let low = I(n) >> U(1u);
  let high = I(n) - low;
  let y = (1.0 + q) * bitcast<F>((low + I(127)) << U(23u))
    * bitcast<F>((high + I(127)) << U(23u));
  return select(select(y, F(0.0), none), x, is_nan_W(x));
}`,

  // exp(x) - 1 = 2 · (2^(n-1) · q + (2^(n-1) - 1/2)), exact near 0, where n is 0.
  expm1: `fn expm1_W(x: F) -> F {
  let c = clamp(x, F(-20.0), F(89.0));${reduceExp}
  let part = bitcast<F>((I(n) + I(126)) << U(23u));
  return select(2.0 * fma(part, q, part - 0.5), x, is_nan_W(x));
}`,

  // log(1 + f) + e · ln 2 for sqrt(1/2) ≤ 1 + f < sqrt(2), as in Cephes.
  log_near_one: `fn log_near_one_W(f: F, e: F) -> F {
  let s = f * f;
  let tail = fma(e, F(-2.12194440e-4), ${
    polynomial("f", [
      7.0376836292e-2,
      -1.1514610310e-1,
      1.1676998740e-1,
      -1.2420140846e-1,
      1.4249322787e-1,
      -1.6668057665e-1,
      2.0000714765e-1,
      -2.4999993993e-1,
      3.3333331174e-1,
    ])
  } * f * s);
  return fma(e, F(0.693359375), f + fma(s, F(-0.5), tail));
}`,

  log: `fn log_W(x: F) -> F {
  let tiny = x < F(1.17549435e-38);
  let scaled = bitcast<U>(select(x, x * 8388608.0, tiny));
  let e = bitcast<I>(scaled - U(0x3f3504f3u)) >> U(23u);
  let m = bitcast<F>(scaled - (bitcast<U>(e) << U(23u)));
  var y = log_near_one_W(m - 1.0, F(e) - select(F(0.0), F(23.0), tiny));
  let bits = bitcast<U>(x);
  y = select(y, x, bits >= U(0x7f800000u));
  y = select(y, F(bitcast<f32>(word(0x7fc00000u))), bits > U(0x80000000u));
  return select(y, F(bitcast<f32>(word(0xff800000u))), (bits << U(1u)) == U(0u));
}`,

  log1p: `fn log1p_W(x: F) -> F {
  let near = (x > F(-0.2928932)) & (x < F(0.41421354));
  return select(log_W(1.0 + x), log_near_one_W(x, F(0.0)), near);
}`,

  sin: `fn sin_W(x: F) -> F {${reduceAngle}
  let y = select(sine, cosine, (q & I(1)) == I(1));
  return select(y, -y, q >= I(2));
}`,

  cos: `fn cos_W(x: F) -> F {${reduceAngle}
  let y = select(cosine, sine, (q & I(1)) == I(1));
  return select(y, -y, (q == I(1)) | (q == I(2)));
}`,

  // tanh |x| = e / (e + 2) with e = exp(2 |x|) - 1
  tanh: `fn tanh_W(x: F) -> F {
  let e = expm1_W(2.0 * min(abs(x), F(10.0)));
  let y = e / (e + 2.0);
  return select(select(y, -y, x < F(0.0)), x, is_nan_W(x));
}`,

  // x · P(x²) below 1 and 1 - exp(-Q(|x|)) above; minimax fits of our own, errors 1.2e-9 and 1.0e-9.
  erf: `fn erf_W(x: F) -> F {
  let s = min(x * x, F(1.0));
  let small = x * ${
    polynomial("s", [
      7.889119297033176e-5,
      -8.020841050893068e-4,
      5.189535208046436e-3,
      -2.6854444295167923e-2,
      0.11283600330352783,
      -0.3761262595653534,
      1.1283791065216064,
    ])
  };
  let t = min(abs(x), F(4.0));
  let large = 1.0 - exp_W(-${
    polynomial("t", [
      -1.855748996604234e-4,
      2.9396156314760447e-3,
      -2.1805351600050926e-2,
      0.10303743183612823,
      0.6382256150245667,
      1.1270400285720825,
      3.5370892146602273e-4,
    ])
  });
  let y = select(select(large, -large, x < F(0.0)), small, t < F(1.0));
  return select(y, x, is_nan_W(x));
}`,

  // NaN for a finite negative base with a fractional exponent; 1 for a base of 1, even where the exponent is NaN.
  pow: `fn pow_W(x: F, y: F) -> F {
  let size = select(exp_W(y * log_W(abs(x))), F(1.0), abs(x) == F(1.0));
  let whole = floor(y) == y;
  let odd = whole & (floor(y * 0.5) != y * 0.5);
  let negative = select(size, -size, odd);
  let real = whole | (x < F(-3.4028234e38));
  let below = select(F(bitcast<f32>(word(0x7fc00000u))), negative, real);
  let known = select(size, below, x < F(0.0));
  let minus = (x == F(0.0)) & ((bitcast<U>(x) >> U(31u)) != U(0u));
  return select(select(known, -size, minus & odd), F(1.0), y == F(0.0));
}`,

  to_i32: `fn to_i32_W(x: F) -> I {
  let inside = I(clamp(x, F(-2147483648.0), F(2147483520.0)));
  let high = select(inside, I(2147483647), x >= F(2147483648.0));
  return select(high, I(0), is_nan_W(x));
}`,

  to_u32: `fn to_u32_W(x: F) -> U {
  let inside = U(clamp(x, F(0.0), F(4294967040.0)));
  let high = select(inside, U(4294967295u), x >= F(4294967296.0));
  return select(high, U(0u), is_nan_W(x));
}`,

  div_i32: `fn div_i32_W(a: I, b: I) -> I {
  let zero = b == I(0);
  return select(a / select(b, I(1), zero), I(0), zero);
}`,

  div_u32: `fn div_u32_W(a: U, b: U) -> U {
  let zero = b == U(0u);
  return select(a / select(b, U(1u), zero), U(0u), zero);
}`,

  // Halves go by integers: devices may take subnormal floats for 0.
  bf16_to_f32: `fn bf16_to_f32_W(bits: U) -> F {
  return bitcast<F>(bits << U(16u));
}`,

  f16_to_f32: `fn f16_to_f32_W(bits: U) -> F {
  let size = bits & U(0x7fffu);
  let normal = (size << U(13u)) + U(0x38000000u);
  let tiny = bitcast<U>(F(size) * 5.9604644775390625e-8);
  let endless = (size << U(13u)) | U(0x7f800000u);
  let wide = select(select(normal, tiny, size < U(0x400u)), endless, size >= U(0x7c00u));
  return bitcast<F>(wide | ((bits & U(0x8000u)) << U(16u)));
}`,

  f32_to_bf16: `fn f32_to_bf16_W(x: F) -> U {
  let word = bitcast<U>(x);
  let size = word & U(0x7fffffffu);
  let near = (size + U(0x7fffu) + ((size >> U(16u)) & U(1u))) >> U(16u);
  let sign = (word >> U(16u)) & U(0x8000u);
  return sign | select(near, U(0x7fc0u), size > U(0x7f800000u));
}`,

  // Below 2^-14 in units of 2^-24; of less than half a unit nothing is left.
  f32_to_f16: `fn f32_to_f16_W(x: F) -> U {
  let word = bitcast<U>(x);
  let size = word & U(0x7fffffffu);
  let near = (size - U(0x38000000u) + U(0xfffu) + ((size >> U(13u)) & U(1u))) >> U(13u);
  let shift = U(126u) - clamp(size >> U(23u), U(101u), U(125u));
  let fraction = (size & U(0x7fffffu)) | U(0x800000u);
  let even = (fraction >> shift) & U(1u);
  let tiny = (fraction + (U(1u) << (shift - U(1u))) - U(1u) + even) >> shift;
  let finite = select(min(near, U(0x7c00u)), tiny, size < U(0x38800000u));
  let sign = (word >> U(16u)) & U(0x8000u);
  return sign | select(finite, U(0x7e00u), size > U(0x7f800000u));
}`,

  threefry: threefry(),
};

/** Threefry-2x32 with 20 rounds (Salmon et al. 2011): word i mod 2 for counter [i div 2, stream]. */
function threefry(): string {
  const rotations = [13, 15, 26, 6, 17, 29, 16, 24];
  const lines = [
    "let k2 = k0 ^ k1 ^ U(0x1bd11bdau);",
    "var a = (i >> U(1u)) + k0;",
    "var b = stream + k1;",
  ];
  for (let round = 0; round < 20; round++) {
    const left = rotations[round % 8]!;
    lines.push(
      `a += b; b = ((b << U(${left}u)) | (b >> U(${32 - left}u))) ^ a;`,
    );
    const group = (round + 1) / 4;
    if (Number.isInteger(group)) {
      lines.push(
        `a += k${group % 3}; b += k${(group + 1) % 3} + U(${group}u);`,
      );
    }
  }
  return `fn threefry_W(k0: U, k1: U, i: U, stream: U) -> U {
  ${lines.join("\n  ")}
  return select(a, b, (i & U(1u)) == U(1u));
}`;
}
