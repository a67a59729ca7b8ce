import type {
  Expr,
  Output,
  Pass,
  ReduceKernel,
} from "../../../core/plan/kernel.ts";
import {
  acc,
  assertClose,
  backends,
  call,
  constant,
  load,
  noise,
  runKernel,
} from "./support.ts";

const rows = 5;

/** Rows that do and do not fill vectors, in the order of memory and across it. */
const layouts = [1, 7, 64, 768].flatMap((columns) =>
  [[columns, 1], [1, rows]].map((strides) => ({ columns, strides }))
);

const add = (a: Expr, b: Expr) => call("add", [a, b]);
const sub = (a: Expr, b: Expr) => call("sub", [a, b]);
const mul = (a: Expr, b: Expr) => call("mul", [a, b]);
const div = (a: Expr, b: Expr) => call("div", [a, b]);

/** Passes over the rows of matrices of one layout. */
function rowKernel(
  columns: number,
  passes: readonly Pass[],
  outputs: readonly Output[] = [],
): ReduceKernel {
  return { kind: "reduce", shape: [rows], over: [columns], passes, outputs };
}

function sum(...bodies: Expr[]): Pass {
  const reductions = bodies.map((body) => ({ combine: "sum", body }) as const);
  return { reductions, outputs: [] };
}

function stores(...outputs: Output[]): Pass {
  return { reductions: [], outputs };
}

/** The rows of a matrix of a layout. */
function rowsOf(
  data: readonly number[],
  [row, column]: readonly number[],
): number[][] {
  const columns = data.length / rows;
  return Array.from(
    { length: rows },
    (_, i) =>
      Array.from({ length: columns }, (_, j) => data[i * row! + j * column!]!),
  );
}

const mean = (xs: readonly number[]) =>
  xs.reduce((a, b) => a + b, 0) / xs.length;

for (const [name, backend] of Object.entries(backends)) {
  const run = async (kernel: ReduceKernel, ...data: (readonly number[])[]) =>
    await runKernel(
      backend,
      kernel,
      data.map((data) => ({ dtype: "f32", data })),
    );

  Deno.test(`softmax of rows is accurate, its exponentials stored or not, ${name}`, async () => {
    for (const { columns, strides } of layouts) {
      const view = { offset: 0, strides };
      const x = load(0, view), e = call("exp", [sub(x, acc(0))]);
      const max: Pass = {
        reductions: [{ combine: "max", body: x }],
        outputs: [],
      };
      const twice = rowKernel(columns, [
        max,
        sum(e),
        stores({ buffer: 1, view, expr: div(e, acc(1)) }),
      ]);
      const inPlace = rowKernel(columns, [
        max,
        { ...sum(e), outputs: [{ buffer: 0, view, expr: e }] },
        stores({ buffer: 0, view, expr: div(load(0, view), acc(1)) }),
      ]);
      // Differences of sixty-fourths are exact, so that small probabilities are too.
      const data = noise(rows * columns).map((x) => Math.round(2000 * x) / 64);
      const [, first] = await run(twice, data, data);
      const [second] = await run(inPlace, data);
      const expected = rowsOf(data, strides).map((row) => {
        const top = Math.max(...row);
        const exps = row.map((x) => Math.exp(x - top));
        const total = exps.reduce((a, b) => a + b);
        return exps.map((e) => e / total);
      });
      for (const actual of [first!, second!]) {
        assertClose(rowsOf(actual, strides).flat(), expected.flat(), 5e-7);
      }
    }
  });

  Deno.test(`layer norm of rows and its gradient are accurate, ${name}`, async () => {
    for (const { columns, strides } of layouts) {
      const view = { offset: 0, strides };
      const alongRow = { offset: 0, strides: [0, 1] };
      const ofRow = { offset: 0, strides: [1, 0] },
        outer = { offset: 0, strides: [1] };
      const n = constant(1 / columns);
      const x = load(0, view),
        gain = load(1, alongRow),
        bias = load(2, alongRow);
      const average = mul(acc(0), n), centered = sub(x, average);
      const variance = add(mul(acc(1), n), constant(1e-5));
      const scale = div(constant(1), call("sqrt", [variance]));
      const forward = rowKernel(columns, [
        sum(x),
        sum(mul(centered, centered)),
        stores({
          buffer: 3,
          view,
          expr: add(mul(mul(centered, scale), gain), bias),
        }),
      ], [
        { buffer: 4, view: outer, expr: average },
        { buffer: 5, view: outer, expr: scale },
      ]);
      const data = noise(rows * columns).map((x) => Math.fround(x + 3));
      const [g, b] = [noise(columns, 2), noise(columns, 3)];
      const [, , , y, means, scales] = await run(
        forward,
        data,
        g,
        b,
        data,
        noise(rows),
        noise(rows),
      );
      const exact = rowsOf(data, strides).map((row) => {
        const m = mean(row);
        const r = 1 / Math.sqrt(mean(row.map((x) => (x - m) ** 2)) + 1e-5);
        return { m, r, hat: row.map((x) => (x - m) * r) };
      });
      assertClose(means!, exact.map(({ m }) => m), 3e-7);
      // The mean, about 3, is rounded: an error of 2⁻²⁴·3 of x - m.
      assertClose(scales!, exact.map(({ r }) => r), 2e-6);
      assertClose(
        rowsOf(y!, strides).flat(),
        exact.flatMap(({ hat }) => hat.map((h, j) => h * g[j]! + b[j]!)),
        2e-6,
        1,
      );

      // dx = r·(d - mean d - x̂·mean(d·x̂)) with d = dy·gain, stored over dy.
      const hat = mul(sub(x, load(2, ofRow)), load(3, ofRow));
      const d = mul(load(4, view), gain);
      const backward = rowKernel(columns, [
        sum(d, mul(d, hat)),
        stores({
          buffer: 4,
          view,
          expr: mul(
            load(3, ofRow),
            sub(sub(d, mul(acc(0), n)), mul(hat, mul(acc(1), n))),
          ),
        }),
      ]);
      const dy = noise(rows * columns, 4);
      const [, , , , dx] = await run(backward, data, g, means!, scales!, dy);
      const expected = rowsOf(dy, strides).flatMap((row, i) => {
        const { r, hat } = exact[i]!;
        const d = row.map((y, j) => y * g[j]!);
        const both = mean(d.map((d, j) => d * hat[j]!)), alone = mean(d);
        return d.map((d, j) => r * (d - alone - hat[j]! * both));
      });
      assertClose(rowsOf(dx!, strides).flat(), expected, 3e-6, 1);
    }
  });
}
