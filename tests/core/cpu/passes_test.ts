import { assert } from "@std/assert";
import fc from "fast-check";
import type {
  Expr,
  Output,
  Pass,
  ReduceKernel,
  Reduction,
} from "../../../core/plan/kernel.ts";
import { type Shape, sizeOf } from "../../../core/shape.ts";
import { check } from "../../support/runs.ts";
import {
  acc,
  assertClose,
  backends,
  type Buffer,
  call,
  constant,
  load,
  noise,
  runKernel,
  simulate,
  viewOf,
  whole,
} from "./support.ts";

const sizes = fc.constantFrom(0, 1, 3, 4, 5, 17, 64);
const spaces = fc.tuple(
  fc.array(sizes, { maxLength: 2 }),
  fc.array(sizes, { maxLength: 2 }),
).filter(([shape, over]) =>
  sizeOf([...shape, ...over].map((d) => d || 1)) < 5000
);

/** What a random kernel is made by: one number a choice. */
const tapes = fc.array(fc.nat(999), { minLength: 120, maxLength: 120 });

/** A kernel of one to three passes over random views, and its buffers; no value leaves [-1, 1] by much. */
function randomKernel(
  shape: Shape,
  over: Shape,
  tape: readonly number[],
): { kernel: ReduceKernel; buffers: Buffer[] } {
  let at = 0;
  const choose = (count: number) => tape[at++ % tape.length]! % count;
  const all = [...shape, ...over];
  const buffers: Buffer[] = [];
  const add = (size: number, dtype: "f32" | "i32" = "f32"): number => {
    const data = noise(size, buffers.length + 1);
    const values = dtype === "f32" ? data : data.map((x) => Math.round(9 * x));
    return buffers.push({ dtype, data: values }) - 1;
  };
  const order = () => {
    const by = choose(24);
    return all.map((_, axis) => axis)
      .sort((a, b) => Math.sin(by + 7 * a) - Math.sin(by + 7 * b));
  };
  const input = (steps: number[], dtype: "f32" | "i32" = "f32") => {
    const { view, size } = viewOf(all, order(), steps);
    return load(add(size, dtype), view, dtype);
  };
  const steps = () => all.map(() => [0, 1, 1, 1, 2, -1][choose(6)]!);
  const isOuter = (_: number, axis: number) => axis < shape.length ? 1 : 0;
  const isInner = (_: number, axis: number) => axis < shape.length ? 0 : 1;
  // The first is updated in place; stores fill a view without gaps.
  const stored = [0, 1, 2].map(() => {
    const { view, size } = viewOf(all, order(), all.map(() => 1));
    return { buffer: add(size), view };
  });
  const pool: Expr[] = [
    load(stored[0]!.buffer, stored[0]!.view),
    input(steps()),
    input(all.map(isOuter)),
    input(all.map(isInner)),
    constant(0.5),
  ];
  const integers = input(steps(), "i32");
  const grow = (): Expr => {
    const a = pool[choose(pool.length)]!, b = pool[choose(pool.length)]!;
    const made = [
      () => call("mul", [a, b]),
      () => call("tanh", [call("add", [a, b])]),
      () => call("mul", [call("sub", [a, b]), constant(0.5)]),
      () => call("maximum", [a, b]),
      () => call("exp", [call("sub", [a, constant(1)])]),
      () => a,
    ][choose(6)]!();
    pool.push(made);
    return made;
  };
  const accs: Expr[] = [];
  const written = new Set<number>();
  const passes = Array.from({ length: 1 + choose(3) }, (): Pass => {
    const reductions = Array.from({ length: choose(4) }, (): Reduction => {
      const combine = choose(3) > 0 ? "sum" : "max";
      return { combine, body: choose(5) > 0 ? grow() : integers };
    });
    const outputs = Array.from({ length: choose(3) }, (_, i): Output => {
      const first = choose(2);
      return { ...stored[(first + i) % 3]!, expr: grow() };
    });
    for (const { combine, body } of reductions) {
      const raw = acc(accs.length, body.dtype);
      const value: Expr = body.dtype === "f32"
        ? raw
        : { kind: "cast", arg: raw, dtype: "f32" };
      accs.push(value);
      const scale = combine === "sum" ? 1 / (sizeOf(over) || 1) : 1;
      const range = body.dtype === "f32" ? 1 : 1 / 9;
      pool.push(call("mul", [value, constant(scale * range)]));
    }
    for (const { buffer, view } of outputs) {
      if (buffer !== 0 && !written.has(buffer)) pool.push(load(buffer, view));
      written.add(buffer);
    }
    return { reductions, outputs };
  });
  const view = whole(shape);
  const outputs = accs.map((expr) => ({
    buffer: add(sizeOf(shape)),
    view,
    expr,
  }));
  return { kernel: { kind: "reduce", shape, over, passes, outputs }, buffers };
}

for (const [name, backend] of Object.entries(backends)) {
  Deno.test(`passes of any reductions and stores equal loops, ${name}`, async () => {
    const property = fc.asyncProperty(
      spaces,
      tapes,
      async ([shape, over], tape) => {
        const { kernel, buffers } = randomKernel(shape, over, tape);
        const actual = await runKernel(backend, kernel, buffers);
        const expected = simulate(kernel, buffers);
        const scale = Math.sqrt(sizeOf(over)) + 1;
        actual.forEach((x, i) => assertClose(x, expected[i]!, 3e-6, scale));
      },
    );
    await check(property, 150);
  });

  Deno.test(`passes over a long axis are accurate, ${name}`, async () => {
    // Rows as along a vocabulary, or of whole vectors, and columns of a matrix as long.
    for (const strides of [[50_257, 1], [2048, 1], [1, 2]]) {
      const rows = 2, length = Math.max(strides[0]!, 2048);
      const x = load(0, { offset: 0, strides });
      const p = call("div", [exp(call("sub", [x, acc(0)])), acc(1)]);
      const { buffer, view } = { buffer: 1, view: { offset: 0, strides } };
      const kernel: ReduceKernel = {
        kind: "reduce",
        shape: [rows],
        over: [length],
        passes: [
          pass([["max", x]]),
          pass([["sum", exp(call("sub", [x, acc(0)]))]]),
          pass([["sum", p], ["sum", call("mul", [p, p])]], [{
            buffer,
            view,
            expr: p,
          }]),
        ],
        outputs: [1, 2, 3].map((index) => ({
          buffer: 1 + index,
          view: whole([rows]),
          expr: acc(index),
        })),
      };
      const data = noise(rows * length).map((x) => 0.01 * x);
      const buffers = [data, data, ...[1, 2, 3].map(() => noise(rows))]
        .map((data) => ({ dtype: "f32" as const, data }));
      const actual = await runKernel(backend, kernel, buffers);
      const expected = simulate(kernel, buffers);
      actual.forEach((x, i) => assertClose(x, expected[i]!, 1e-6));
    }
  });

  Deno.test(`long columns with several sums are cut and stay accurate, ${name}`, async () => {
    const [rows, columns] = [10_007, 6];
    const x = load(0, { offset: 0, strides: [1, columns] });
    const y = load(1, { offset: 0, strides: [0, 1] });
    const square = { buffer: 2, view: { offset: 0, strides: [1, columns] } };
    const kernel: ReduceKernel = {
      kind: "reduce",
      shape: [columns],
      over: [rows],
      passes: [
        pass([
          ["sum", x],
          ["sum", call("mul", [x, y])],
          ["max", x],
        ], [{ ...square, expr: call("mul", [x, x]) }]),
      ],
      outputs: [0, 1, 2].map((index) => ({
        buffer: 3 + index,
        view: whole([columns]),
        expr: acc(index),
      })),
    };
    const data = noise(rows * columns).map((x) => x + 1);
    const weights = noise(rows, 2).map((x) => x + 1);
    const buffers = [
      data,
      weights,
      data,
      ...[0, 1, 2].map(() => [0, 0, 0, 0, 0, 0]),
    ]
      .map((data) => ({ dtype: "f32" as const, data }));
    const actual = await runKernel(backend, kernel, buffers);
    const expected = simulate(kernel, buffers);
    actual.forEach((x, i) => assertClose(x, expected[i]!, 5e-7));
  });

  Deno.test(`the max of a row with NaN is NaN in later passes too, ${name}`, async () => {
    const x = load(0, whole([2, 9]));
    const kernel: ReduceKernel = {
      kind: "reduce",
      shape: [2],
      over: [9],
      passes: [
        pass([["max", x]]),
        pass([], [{
          buffer: 0,
          view: whole([2, 9]),
          expr: call("sub", [x, acc(0)]),
        }]),
      ],
      outputs: [],
    };
    const data = noise(18).map((x, i) => i === 4 ? NaN : x);
    const [out] = await runKernel(backend, kernel, [{ dtype: "f32", data }]);
    out!.forEach((x, i) => assert(Number.isNaN(x) === i < 9));
  });
}

function pass(
  reductions: readonly (readonly ["sum" | "max", Expr])[],
  outputs: readonly Output[] = [],
): Pass {
  return {
    reductions: reductions.map(([combine, body]) => ({ combine, body })),
    outputs,
  };
}

function exp(x: Expr): Expr {
  return call("exp", [x]);
}
