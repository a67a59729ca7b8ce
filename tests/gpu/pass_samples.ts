/**
 * Random reductions of several passes, and groups of kernels.
 *
 * @module
 */

import fc from "fast-check";
import type { Data } from "../../core/dtype.ts";
import { leafMapper, mapKernel } from "../../core/plan/expression.ts";
import type {
  Expr,
  Output,
  Pass,
  Reduction,
  SimpleKernel,
  View,
} from "../../core/plan/kernel.ts";
import { type Shape, sizeOf, stridesOf } from "../../core/shape.ts";
import { accAt, call, fill, load, reduction, wave } from "./run.ts";
import { layoutOf, output, type Sample } from "./samples.ts";

const extents = (most: number, more: number[] = []) =>
  fc.array(fc.constantFrom(0, 1, 3, 4, 5, 17, 64, ...more), {
    maxLength: most,
  });

/** Which of the values at hand an expression is made of. */
const recipe = fc.record({
  op: fc.constantFrom("add" as const, "sub" as const, "maximum" as const),
  leaves: fc.tuple(fc.nat(99), fc.nat(99), fc.nat(99)),
});
type Recipe = typeof recipe extends fc.Arbitrary<infer T> ? T : never;

const passRecipe = fc.record({
  reductions: fc.array(
    fc.record({
      combine: fc.constantFrom("sum" as const, "max" as const),
      body: recipe,
      counts: fc.boolean(),
    }),
    { maxLength: 3 },
  ),
  stores: fc.option(recipe),
});

function make({ op, leaves }: Recipe, at: readonly Expr[]): Expr {
  const [a, b, c] = leaves.map((i) => at[i % at.length]!);
  return call(op, [a!, call("mul", [b!, c!])]);
}

/** What an accumulator is used as: numbers that do not grow with the number of terms. */
function leavesOf(index: number, reduction: Reduction, terms: number): Expr[] {
  const { combine, body: { dtype } } = reduction;
  const acc = accAt(index, dtype);
  const number: Expr = dtype === "f32"
    ? acc
    : { kind: "cast", arg: acc, dtype: "f32" };
  const scale = combine === "sum" && terms > 0 ? 1 / terms : 1;
  // Of nothing the largest is -Infinity.
  const tame = call("maximum", [call("mul", [number, fill(scale)]), fill(-50)]);
  const square = call("mul", [tame, tame]);
  const root = call("sqrt", [call("add", [square, fill(1)])]);
  return [tame, call("div", [fill(1), root])];
}

/** One to three passes over two tensors, numbers of rows and of columns; some store over what they read. */
export const passes: fc.Arbitrary<Sample> = fc.tuple(
  extents(2),
  extents(2, [64, 250, 256]),
)
  .filter(([shape, over]) => sizeOf(shape) * sizeOf(over) < 2e4)
  .chain(([shape, over]) =>
    fc.record({
      shape: fc.constant(shape),
      over: fc.constant(over),
      x: layoutOf([...shape, ...over]),
      y: layoutOf([...shape, ...over]),
      walks: fc.array(passRecipe, { minLength: 1, maxLength: 3 }),
      results: fc.array(recipe, { maxLength: 2 }),
      inPlace: fc.boolean(),
    })
  ).map(({ shape, over, x, y, walks, results, inPlace }): Sample => {
    const all = [...shape, ...over];
    const inRows = { offset: 0, strides: stridesOf(shape) };
    const ofRow = load(2, [...stridesOf(shape), ...over.map(() => 0)]);
    const ofColumn = load(3, [...shape.map(() => 0), ...stridesOf(over)]);
    const source: Expr = { kind: "load", buffer: 0, ...x, dtype: "f32" };
    const other: Expr = { kind: "load", buffer: 1, ...y, dtype: "f32" };
    const position: Expr = {
      kind: "index",
      view: { offset: 2, strides: all.map(() => 1) },
      dtype: "i32",
    };
    const overwrites = inPlace && isInjective(x.view, all);
    const kept: Output[] = [
      { buffer: 4, view: { offset: 0, strides: stridesOf(all) } },
      overwrites
        ? { buffer: 0, view: x.view }
        : { buffer: 5, view: { offset: 0, strides: stridesOf(all) } },
    ].map((place) => ({ ...place, expr: source }));

    const known: Expr[] = [source, other, ofRow, ofColumn, fill(0.5)];
    const accs: Expr[] = [];
    let count = 0;
    const made = walks.map(({ reductions, stores }, i): Pass => {
      const own = reductions.map(({ combine, body, counts }): Reduction => ({
        combine,
        body: counts ? position : make(body, known),
      }));
      const outputs = stores
        ? [{ ...kept[i % 2]!, expr: make(stores, known) }]
        : [];
      for (const reduction of own) {
        accs.push(...leavesOf(count++, reduction, sizeOf(over)));
      }
      known.push(...accs.slice(-2 * own.length));
      for (const { buffer, view } of outputs) {
        known.push({ kind: "load", buffer, view, dtype: "f32" });
      }
      return { reductions: own, outputs };
    });
    const late = [load(2, inRows.strides), fill(2), ...accs];
    const outputs = results.map((result, i) => ({
      buffer: i === 0 ? 6 : 2,
      view: inRows,
      expr: make(result, late),
    }));
    return [
      { kind: "reduce", shape, over, passes: made, outputs },
      [
        wave(x.length),
        wave(y.length, 3),
        wave(sizeOf(shape), 5),
        wave(sizeOf(over), 7),
        new Float32Array(sizeOf(all)),
        new Float32Array(sizeOf(all)),
        new Float32Array(sizeOf(shape)),
      ],
    ];
  });

/** Whether no two points of a shape share an element. */
function isInjective({ strides }: View, shape: Shape): boolean {
  return strides.every((s, i) => s !== 0 || shape[i]! <= 1);
}

const extent = fc.constantFrom(0, 1, 3, 4, 17, 64);

/** An update in place, by a number that all parts share as buffer 0. */
const updates = extent.map((size): Sample => [{
  kind: "map",
  shape: [size],
  outputs: [
    output(1, [size], call("sub", [load(1, [1]), load(0, [0])])),
  ],
}, [wave(size, 2)]]);

/** Means and largest elements of rows. */
const rows = fc.tuple(extent, extent).map(([m, n]): Sample => [
  reduction([m], [n], "sum", call("mul", [load(1, [n, 1]), load(0, [0, 0])]), [
    output(2, [m], call("add", [accAt(0), load(0, [0])])),
  ]),
  [wave(m * n, 3), new Float32Array(m)],
]);

/** Softmax in place. */
const softmaxes = fc.tuple(extent, extent).map(([m, n]): Sample => [
  softmax(m, n, 1),
  [wave(m * n, 5)],
]);

/** Products with a single or with several rows. */
const matmuls = fc.tuple(extent, extent, extent).map(([m, n, k]): Sample => [{
  kind: "matmul",
  shape: [m, n],
  k,
  a: { buffer: 1, view: { offset: 0, strides: [k, 1] }, dtype: "f32" },
  b: { buffer: 2, view: { offset: 0, strides: [n, 1] }, dtype: "f32" },
  outputs: [output(3, [m, n], accAt(0))],
}, [wave(m * k), wave(k * n, 3), new Float32Array(m * n)]]);

/** Independent kernels of any kind that read one number in common. */
export const groups: fc.Arbitrary<Sample> = fc.array(
  fc.oneof(updates, updates, rows, softmaxes, matmuls),
  { minLength: 1, maxLength: 4 },
).map((samples): Sample => {
  const buffers: Data[] = [Float32Array.of(0.25)];
  const parts: SimpleKernel[] = [];
  for (const [kernel, own] of samples) {
    const first = buffers.length;
    if (first + own.length > 8 || kernel.kind === "group") break;
    const buffer = (b: number): number => b === 0 ? 0 : b + first - 1;
    const expr = leafMapper((e) =>
      "buffer" in e ? { ...e, buffer: buffer(e.buffer) } : e
    );
    parts.push(mapKernel(kernel, { buffer, expr: (e) => expr(e)! }));
    buffers.push(...own);
  }
  return [{ kind: "group", parts }, buffers];
});

/** Softmax over rows of n, in place in a buffer. */
export function softmax(m: number, n: number, buffer: number): SimpleKernel {
  const x = load(buffer, [n, 1]);
  const e = call("exp", [call("sub", [x, accAt(0)])]);
  const y = call("mul", [e, call("div", [fill(1), accAt(1)])]);
  return {
    kind: "reduce",
    shape: [m],
    over: [n],
    passes: [
      { reductions: [{ combine: "max", body: x }], outputs: [] },
      { reductions: [{ combine: "sum", body: e }], outputs: [] },
      { reductions: [], outputs: [output(buffer, [m, n], y)] },
    ],
    outputs: [],
  };
}
