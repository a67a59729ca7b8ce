import { assert, AssertionError } from "@std/assert";
import type { Backend } from "../../../core/backend.ts";
import type { Data } from "../../../core/dtype.ts";
import type { Place, Plan, ScalarOp } from "../../../core/plan/kernel.ts";
import { erf, scalars } from "../../../core/scalars.ts";
import { isFull } from "../../support/runs.ts";
import { backends, call, load, whole } from "./support.ts";

/** Every so many-th bit pattern is tried; with an odd number patterns of all kinds. */
const STEP = isFull ? 5 : 4097;

/** Floats that go through a backend at once. */
const CHUNK = 2 ** 16;

/** The largest float. */
const MAX = (2 - 2 ** -23) * 2 ** 127;

/** What no step may miss: the ends of ranges, and what lies closest to a multiple of π/2 (Muller 2016, table 11.1). */
const edges = [
  ...[0, 1, Infinity, 2 ** -149, 2 ** -126, 2 ** -127, MAX],
  ...[87.33654, 88.02969, 88.72283, 88.72284, 103.27893, 103.97207, 103.97208],
  ...[16367173 * 2 ** 72, 2 ** 11 * Math.PI, 3199.9998, 3200, 3200.0002],
  ...Array.from({ length: 4096 }, (_, i) => i * Math.PI / 2),
  ...Array.from({ length: 8192 }, (_, i) => i / 512),
].flatMap((x) => [x, -x]);

const functions: Partial<
  Record<ScalarOp, { f: (x: number) => number; ulps: number }>
> = {
  exp: { f: Math.exp, ulps: 1.5 },
  expm1: { f: Math.expm1, ulps: 2 },
  log: { f: Math.log, ulps: 1 },
  log1p: { f: Math.log1p, ulps: 2 },
  sin: { f: Math.sin, ulps: 2.5 },
  cos: { f: Math.cos, ulps: 2.5 },
  tanh: { f: Math.tanh, ulps: 3 },
  erf: { f: erf, ulps: 3 },
  sqrt: { f: Math.sqrt, ulps: 0.5 },
  floor: { f: Math.floor, ulps: 0 },
  sign: { f: Math.sign, ulps: 0 },
  abs: { f: Math.abs, ulps: 0 },
  neg: { f: (x) => -x, ulps: 0 },
};

for (const [op, { f, ulps }] of Object.entries(functions)) {
  Deno.test(`${op} is within ${ulps} ulp over all floats`, async () => {
    const check = checker(op as ScalarOp, 1, ulps, f);
    await check([chunk((i) => edges[i] ?? NaN)]);
    for (let first = 0; first < 2 ** 32; first += CHUNK * STEP) {
      await check([patterns((i) => first + i * STEP)]);
    }
  });
}

Deno.test("pow is within 2 ulp over all floats", async () => {
  const check = checker(
    "pow",
    2,
    2,
    (a, b) => scalars.pow(a, b!, 0, "f32", undefined),
  );
  const list = [0, 1, 0.5, 2, 3, 1e-3, 31, 1e30, 2 ** -149, 2 ** 24, Infinity]
    .flatMap((x) => [x, -x]).concat(NaN);
  await check([
    chunk((i) => list[i % list.length]!),
    chunk((i) => list[Math.floor(i / list.length) % list.length]!),
  ]);
  let state = 1;
  const random = () => state = Math.imul(state, 1664525) + 1013904223;
  for (let round = 0; round < (isFull ? 512 : 8); round++) {
    const a = patterns(random);
    await check([a, patterns(random)]);
    // Powers of all sizes that a float can have, half of them with whole exponents.
    const b = chunk((i) => {
      const exponent = (i / CHUNK - 0.5) * 320 / Math.log2(Math.abs(a[i]!));
      return i % 2 === 0 ? exponent : Math.round(exponent);
    });
    await check([a, b]);
  }
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

function chunk(element: (i: number) => number): Float32Array {
  return Float32Array.from({ length: CHUNK }, (_, i) => element(i));
}

/** Floats by their bits. */
function patterns(bits: (i: number) => number): Float32Array {
  const words = Uint32Array.from({ length: CHUNK }, (_, i) => bits(i));
  return new Float32Array(words.buffer);
}

/** Compares a function on the backend with fused multiply-add, and on the one without, with the same in float64. */
function checker(
  op: ScalarOp,
  arity: number,
  ulps: number,
  exact: (a: number, b?: number) => number,
): (inputs: readonly Float32Array[]) => Promise<void> {
  const runs = ["relaxed simd", "plain simd"].map((name) => {
    return { name, run: functionOn(backends[name]!, op, arity) };
  });
  return async (inputs) => {
    const [a, b] = inputs as [Float32Array, Float32Array?];
    const expected = Float64Array.from(a, (x, i) => exact(x, b?.[i]));
    for (const { name, run } of runs) {
      const actual = await run(inputs);
      expected.forEach((y, i) => {
        const error = ulpsBetween(actual[i]!, y);
        if (error <= ulps) return;
        const given = inputs.map((x) => x[i]).join(", ");
        throw new AssertionError(
          `${op}(${given}) is ${actual[i]} on ${name}, ${error} ulp from ${y}`,
        );
      });
    }
  };
}

/** A function of chunks on a backend. */
function functionOn(
  backend: Backend,
  op: ScalarOp,
  arity: number,
): (inputs: readonly Float32Array[]) => Promise<Data> {
  const view = whole([CHUNK]);
  const args = Array.from({ length: arity }, (_, i) => load(i, view));
  const buffers: Place[] = [
    ...args.map((_, index): Place => ({ kind: "input", index })),
    { kind: "output", index: 0 },
  ];
  const plan: Plan = {
    inputs: arity,
    outputs: [{ kind: "new", size: CHUNK, dtype: "f32" }],
    freed: args.map((_, index) => index),
    steps: [{
      kernel: {
        kind: "map",
        shape: [CHUNK],
        outputs: [{ buffer: arity, view, expr: call(op, args) }],
      },
      buffers,
      dtypes: buffers.map(() => "f32"),
    }],
    pages: [],
    loops: [],
  };
  const graph = { inputs: [], outputs: [] };
  const program = backend.compile(graph, args.map(() => true), () => plan);
  return async (inputs) => {
    const [output] = program.run(inputs.map((x) => backend.upload(x, "f32")));
    const data = await backend.download(output!, "f32", CHUNK);
    backend.free(output!);
    return data;
  };
}

/**
 * Distance in units of the last place of the float nearest to `expected`: 0 for two NaNs, two equal infinities and two
 * zeros of one sign.
 */
function ulpsBetween(actual: number, expected: number): number {
  const rounded = Math.fround(expected);
  if (Object.is(actual, rounded)) return 0;
  if (actual === 0 && rounded === 0) return Infinity;
  const isHuge = Math.abs(rounded) >= MAX && Math.abs(actual) >= MAX;
  // Beyond the largest float comes infinity.
  if (isHuge && actual * rounded > 0) return 1;
  const exponent = Math.floor(Math.log2(Math.abs(rounded)));
  const error = Math.abs(actual - expected) /
    2 ** (Math.max(-126, exponent) - 23);
  return Number.isNaN(error) ? Infinity : error;
}
