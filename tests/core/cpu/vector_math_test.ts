import { assert } from "@std/assert";
import { erf } from "../../../core/scalars.ts";
import type { ScalarOp } from "../../../core/plan/kernel.ts";
import { backends, call, load, runKernel, whole } from "./support.ts";

/** Every 2³²/70001-th float and what lies at the edges. */
const sampled = (() => {
  const bits = Uint32Array.from({ length: 70_001 }, (_, i) => i * 61_355);
  const edges = [
    0,
    -0,
    1,
    -1,
    Infinity,
    -Infinity,
    NaN,
    2 ** -149,
    -(2 ** -149),
  ];
  const near = Array.from({ length: 20_000 }, (_, i) => (i - 10_000) / 250);
  return [...new Float32Array(bits.buffer), ...edges, ...near].map(Math.fround);
})();

const functions: Partial<
  Record<ScalarOp, { f: (x: number) => number; ulps: number; most?: number }>
> = {
  exp: { f: Math.exp, ulps: 1.5 },
  expm1: { f: Math.expm1, ulps: 3 },
  log: { f: Math.log, ulps: 2 },
  log1p: { f: Math.log1p, ulps: 3 },
  sin: { f: Math.sin, ulps: 2, most: 1e6 },
  cos: { f: Math.cos, ulps: 2, most: 1e6 },
  tanh: { f: Math.tanh, ulps: 6 },
  erf: { f: erf, ulps: 7 },
  sqrt: { f: Math.sqrt, ulps: 0.5 },
  floor: { f: Math.floor, ulps: 0 },
  sign: { f: Math.sign, ulps: 0 },
  abs: { f: Math.abs, ulps: 0 },
  neg: { f: (x) => -x, ulps: 0 },
};

for (const [name, backend] of Object.entries(backends)) {
  for (const [op, { f, ulps, most = Infinity }] of Object.entries(functions)) {
    Deno.test(`${op} is within ${ulps} ulp over all floats, ${name}`, async () => {
      const xs = sampled.filter((x) =>
        !(Math.abs(x) > most) || !Number.isFinite(x)
      );
      const view = whole([xs.length]);
      const expr = call(op as ScalarOp, [load(0, view)]);
      const [, ys] = await runKernel(backend, {
        kind: "map",
        shape: [xs.length],
        outputs: [{ buffer: 1, view, expr }],
      }, [{ dtype: "f32", data: xs }, { dtype: "f32", data: xs }]);
      let worst = 0, at = 0;
      xs.forEach((x, i) => {
        const error = ulpsBetween(ys![i]!, f(x));
        if (error > worst) [worst, at] = [error, x];
      });
      assert(worst <= ulps, `${worst} ulp at ${at}`);
    });
  }

  Deno.test(`pow is within 2 ulp over all floats, ${name}`, async () => {
    const exponents = [
      0,
      1,
      -1,
      2,
      3,
      -3,
      0.5,
      -0.5,
      1 / 3,
      7.5,
      1e-3,
      31,
      -40,
    ];
    const bases = sampled.filter((_, i) => i % 7 === 0);
    const edges = [0, -0, 1, -1, 0.5, -2, Infinity, -Infinity, NaN, 2 ** -149];
    const pairs = [
      ...bases.flatMap((a) => exponents.map((b) => [a, b] as const)),
      ...edges.flatMap((a) => edges.map((b) => [a, b] as const)),
    ].map(([a, b]) => [Math.fround(a), Math.fround(b)] as const);
    const view = whole([pairs.length]);
    const [, , ys] = await runKernel(
      backend,
      {
        kind: "map",
        shape: [pairs.length],
        outputs: [{
          buffer: 2,
          view,
          expr: call("pow", [load(0, view), load(1, view)]),
        }],
      },
      [0, 1, 0].map((side) => ({
        dtype: "f32",
        data: pairs.map((pair) => pair[side]!),
      })),
    );
    pairs.forEach(([a, b], i) => {
      // JavaScript departs from C here.
      const expected =
        Math.abs(a) === 1 && (a === 1 || Math.abs(b) === Infinity)
          ? 1
          : Math.pow(a, b);
      const error = ulpsBetween(ys![i]!, expected);
      assert(error <= 2, `${a} to the ${b} is ${ys![i]}, not ${expected}`);
    });
  });

  Deno.test(`sin and cos of large numbers stay within -1 and 1, ${name}`, async () => {
    const xs = sampled.filter((x) =>
      Math.abs(x) > 1e6 && Math.abs(x) < Infinity
    );
    const view = whole([xs.length]);
    const buffers = xs.map((x) => x);
    for (const op of ["sin", "cos"] as const) {
      const [, ys] = await runKernel(backend, {
        kind: "map",
        shape: [xs.length],
        outputs: [{ buffer: 1, view, expr: call(op, [load(0, view)]) }],
      }, [{ dtype: "f32", data: xs }, { dtype: "f32", data: buffers }]);
      assert(ys!.every((y) => Math.abs(y) <= 1));
    }
  });
}

/** Distance in units of the last place of the float nearest to `expected`; 0 for two NaNs and two equal infinities. */
function ulpsBetween(actual: number, expected: number): number {
  if (Number.isNaN(expected)) return Number.isNaN(actual) ? 0 : Infinity;
  const rounded = Math.fround(expected);
  if (actual === rounded) return 0;
  if (!Number.isFinite(rounded)) {
    return Math.abs(actual) > 3.4028e38 && actual * rounded > 0 ? 1 : Infinity;
  }
  const exponent = Math.max(-126, Math.floor(Math.log2(Math.abs(rounded))));
  return Math.abs(actual - expected) / 2 ** (exponent - 23);
}
