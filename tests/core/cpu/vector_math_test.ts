import { assert } from "@std/assert";
import { erf, scalars } from "../../../core/scalars.ts";
import { isFull } from "../../support/runs.ts";
import { checker, CHUNK, chunk, patterns, testOverFloats } from "./floats.ts";

// As floats, powers beyond these ends are 0 or infinite: there the float64 function only takes time.
const isBeyond = (x: number) => x > 100 || x < -110;

testOverFloats("exp", (x, y) => {
  for (let i = 0; i < x.length; i++) {
    y[i] = isBeyond(x[i]!) ? x[i]! > 0 ? Infinity : 0 : Math.exp(x[i]!);
  }
}, { ulps: 1.5 });
testOverFloats("expm1", (x, y) => {
  for (let i = 0; i < x.length; i++) {
    y[i] = isBeyond(x[i]!) ? x[i]! > 0 ? Infinity : -1 : Math.expm1(x[i]!);
  }
}, { ulps: 2 });
testOverFloats("log", (x, y) => {
  for (let i = 0; i < x.length; i++) y[i] = Math.log(x[i]!);
}, { ulps: 1 });
testOverFloats("log1p", (x, y) => {
  for (let i = 0; i < x.length; i++) y[i] = Math.log1p(x[i]!);
}, { ulps: 2 });

Deno.test("pow is within 2 ulp over all floats", async () => {
  const compare = checker("pow", 2, 2);
  const check = (a: Float32Array, b: Float32Array) => {
    const exact = (x: number, i: number) =>
      scalars.pow(x, b[i]!, 0, "f32", undefined);
    return compare([a, b], Float64Array.from(a, exact));
  };
  const list = [0, 1, 0.5, 2, 3, 1e-3, 31, 1e30, 2 ** -149, 2 ** 24, Infinity]
    .flatMap((x) => [x, -x]).concat(NaN);
  let worst = await check(
    chunk((i) => list[i % list.length]!),
    chunk((i) => list[Math.floor(i / list.length) % list.length]!),
  );
  let state = 1;
  const random = () => state = Math.imul(state, 1664525) + 1013904223;
  for (let round = 0; round < (isFull ? 512 : 8); round++) {
    const a = patterns(random);
    worst = Math.max(worst, await check(a, patterns(random)));
    // Powers of all sizes that a float can have, half of them with whole exponents.
    const b = chunk((i) => {
      const exponent = (i / CHUNK - 0.5) * 320 / Math.log2(Math.abs(a[i]!));
      return i % 2 === 0 ? exponent : Math.round(exponent);
    });
    worst = Math.max(worst, await check(a, b));
  }
  if (isFull) console.log(`pow: at most ${worst.toFixed(3)} ulp`);
});

Deno.test("the reference's erf is right within 2e-15", () => {
  // By mpmath with 40 digits.
  const values = [
    [1e-300, 1.1283791670955126e-300],
    [0.1, 0.1124629160182849],
    [0.5, 0.5204998778130465],
    [1, 0.8427007929497149],
    [1.7, 0.9837904585907745],
    [2.3, 0.9988568234026434],
    [3.3, 0.9999969422902035],
    [4.1, 0.9999999932999724],
    [5.3, 0.9999999999999338],
    [6.1, 1],
  ] as const;
  for (const [x, exact] of values) {
    for (const sign of [1, -1]) {
      const error = Math.abs(erf(sign * x) / (sign * exact) - 1);
      assert(error < 2e-15, `erf(${sign * x}) is off by ${error}`);
    }
  }
});
