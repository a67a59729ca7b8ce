/**
 * Functions of the wasm backend against the same in float64, over all floats.
 *
 * @module
 */

import { AssertionError } from "@std/assert";
import type { Backend } from "../../../core/backend.ts";
import type { Data } from "../../../core/dtype.ts";
import type { Place, Plan, ScalarOp } from "../../../core/plan/kernel.ts";
import { isFull } from "../../support/runs.ts";
import { backends, call, load, whole } from "./support.ts";

/** Floats that go through a backend at once. */
export const CHUNK = 2 ** 16;

/** The largest float. */
const MAX = (2 - 2 ** -23) * 2 ** 127;

/** Units in the last place of floats, by the exponents in their bits. */
const UNITS = Float64Array.from(
  { length: 256 },
  (_, exponent) => 2 ** (Math.max(1, exponent) - 150),
);

/** What no step may miss: the ends of ranges, and what lies closest to a multiple of π/2 (Muller 2016, table 11.1). */
const edges = [
  ...[0, 1, Infinity, 2 ** -149, 2 ** -126, 2 ** -127, MAX],
  ...[87.33654, 88.02969, 88.72283, 88.72284, 103.27893, 103.97207, 103.97208],
  ...[16367173 * 2 ** 72, 2 ** 11 * Math.PI, 3199.9998, 3200, 3200.0002],
  ...Array.from({ length: 4096 }, (_, i) => i * Math.PI / 2),
  ...Array.from({ length: 8192 }, (_, i) => i / 512),
].flatMap((x) => [x, -x]);

/** A function of chunks in float64: each a loop of its own, into which the engine inlines the function. */
export type Exact = (x: Float32Array, y: Float64Array) => void;

/** How results may differ, and what is known of them. */
export interface Expectation {
  /** Units in the last place that they may be off. */
  readonly ulps: number;
  /** Whether f(-x) is -f(x), or f(x): then half of the floats cost little. */
  readonly symmetry?: "odd" | "even";
  /** Under `COTAN_FULL` every so many-th float is tried, by default each. */
  readonly step?: number;
}

/** Registers a test of a function: by default it tries every 4,097th float, so that there are patterns of all kinds. */
export function testOverFloats(
  op: ScalarOp,
  exact: Exact,
  { ulps, symmetry, step = 1 }: Expectation,
): void {
  Deno.test(`${op} is within ${ulps} ulp over all floats`, async () => {
    const check = checker(op, ulps);
    const words = new Uint32Array(CHUNK);
    const inputs = new Float32Array(words.buffer);
    const expected = new Float64Array(CHUNK);
    const stride = isFull ? step : 4097;
    const half = 2 ** 31;
    inputs.fill(NaN).set(edges);
    exact(inputs, expected);
    let worst = await check([inputs], expected);
    for (let first = 0; first < half; first += CHUNK * stride) {
      for (let i = 0; i < CHUNK; i++) words[i] = first + i * stride;
      exact(inputs, expected);
      worst = Math.max(worst, await check([inputs], expected));
      for (let i = 0; i < CHUNK; i++) words[i]! ^= half;
      if (!symmetry) exact(inputs, expected);
      if (symmetry === "odd") {
        for (let i = 0; i < CHUNK; i++) expected[i] = -expected[i]!;
      }
      worst = Math.max(worst, await check([inputs], expected));
    }
    if (isFull) console.log(`${op}: at most ${worst.toFixed(3)} ulp`);
  });
}

/** Floats of a chunk. */
export function chunk(element: (i: number) => number): Float32Array {
  return Float32Array.from({ length: CHUNK }, (_, i) => element(i));
}

/** Floats by their bits. */
export function patterns(bits: (i: number) => number): Float32Array {
  const words = Uint32Array.from({ length: CHUNK }, (_, i) => bits(i));
  return new Float32Array(words.buffer);
}

/**
 * Compares a function of chunks on the backend with fused multiply-add, and on the one without, with what it should be;
 * gives the largest distance.
 */
export function checker(
  op: ScalarOp,
  ulps: number,
  arity = 1,
): (
  inputs: readonly Float32Array[],
  expected: Float64Array,
) => Promise<number> {
  const runs = ["relaxed simd", "plain simd"].map((name) => {
    return { name, run: functionOn(backends[name]!, op, arity) };
  });
  const rounded = new Float32Array(CHUNK);
  const wanted = new Int32Array(rounded.buffer);
  return async (inputs, expected) => {
    rounded.set(expected);
    let worst = 0;
    for (const { name, run } of runs) {
      const actual = await run(inputs) as Float32Array;
      const bits = new Int32Array(actual.buffer, actual.byteOffset, CHUNK);
      for (let i = 0; i < CHUNK; i++) {
        // The nearest float, most often: its distance is of no interest.
        if (bits[i] === wanted[i]) continue;
        const unit = UNITS[wanted[i]! >>> 23 & 0xff]!;
        const error = ulpsBetween(actual[i]!, expected[i]!, rounded[i]!, unit);
        if (error > worst) worst = error;
        if (error <= ulps) continue;
        const given = inputs.map((x) => x[i]).join(", ");
        throw new AssertionError(
          `${op}(${given}) is ${actual[i]} on ${name}, ${error} ulp from ${
            expected[i]
          }`,
        );
      }
    }
    return worst;
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
 * Distance, in units in its last place, of what a float should be: 0 for two NaNs, two equal infinities and two zeros of
 * one sign.
 */
function ulpsBetween(
  actual: number,
  expected: number,
  rounded: number,
  unit: number,
): number {
  if (Object.is(actual, rounded)) return 0;
  if (actual === 0 && rounded === 0) return Infinity;
  const isHuge = Math.abs(rounded) >= MAX && Math.abs(actual) >= MAX;
  // Beyond the largest float comes infinity.
  if (isHuge && actual * rounded > 0) return 1;
  const error = Math.abs(actual - expected) / unit;
  return Number.isNaN(error) ? Infinity : error;
}
