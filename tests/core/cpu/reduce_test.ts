import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import type { Backend } from "../../../core/backend.ts";
import type { DType } from "../../../core/dtype.ts";
import type { ReduceKernel, View } from "../../../core/plan/kernel.ts";
import { type Shape, sizeOf, stridesOf } from "../../../core/shape.ts";
import { check } from "../../support/runs.ts";
import {
  acc,
  assertClose,
  backends,
  call,
  load,
  noise,
  runKernel,
  simulate,
  whole,
} from "./support.ts";

const sizes = fc.constantFrom(0, 1, 2, 3, 4, 5, 7, 8, 13, 33, 64, 100);
const shapes = fc.array(sizes, { maxLength: 3 });
const cases = fc.tuple(shapes, shapes, fc.nat())
  .filter(([shape, over]) =>
    sizeOf([...shape, ...over].map((d) => d || 1)) <= 8000
  );

/** The view of a contiguous buffer whose axes lie in an order that depends on a seed. */
function permuted(shape: Shape, seed: number): View {
  const order = shape.map((_, i) => i)
    .sort((a, b) => Math.sin(seed + 7 * a) - Math.sin(seed + 7 * b));
  const inOrder = stridesOf(order.map((axis) => shape[axis]!));
  const strides = shape.map((_, axis) => inOrder[order.indexOf(axis)]!);
  return { offset: 0, strides };
}

for (const [name, backend] of Object.entries(backends)) {
  for (const dtype of ["f32", "i32", "u32"] as const) {
    for (const combine of ["sum", "max"] as const) {
      Deno.test(`the ${combine} of ${dtype} over any axes equals loops, ${name}`, async () => {
        const property = fc.asyncProperty(
          cases,
          async ([shape, over, seed]) => {
            const all = [...shape, ...over];
            const x = load(0, permuted(all, seed), dtype);
            const extra = load(1, permuted(shape, seed + 1), dtype);
            const body = call(seed % 2 ? "mul" : "add", [x, x]);
            const kernel: ReduceKernel = {
              kind: "reduce",
              shape,
              over,
              passes: [{ reductions: [{ combine, body }], outputs: [] }],
              outputs: [
                {
                  buffer: 2,
                  view: permuted(shape, seed + 2),
                  expr: call("add", [acc(0, dtype), extra]),
                },
                { buffer: 3, view: whole(shape), expr: acc(0, dtype) },
              ],
            };
            const buffers = [all, shape, shape, shape].map((s, i) => ({
              dtype,
              data: numbers(sizeOf(s), dtype, i + 1),
            }));
            const actual = await runKernel(backend, kernel, buffers);
            const expected = simulate(kernel, buffers);
            if (dtype !== "f32") assertEquals(actual, expected);
            const scale = Math.sqrt(sizeOf(over)) + 1;
            actual.forEach((x, i) => assertClose(x, expected[i]!, 1e-6, scale));
          },
        );
        await check(property, 50);
      });
    }
  }

  Deno.test(`a long sum is accurate to 1e-6, ${name}`, async () => {
    for (const value of [0.1, 1 / 3, null]) {
      const count = 1_000_003;
      const data = value === null
        ? noise(count).map((x) => x + 1)
        : new Array<number>(count).fill(value);
      const exact = data.map(Math.fround).reduce((sum, x) => sum + x, 0);
      const sum = await reduceOnce(backend, data, [], [count], [1]);
      assertClose(sum, [exact], 1e-6);
      const columns = await reduceOnce(backend, data, [3], [(count - 1) / 3], [
        1,
        3,
      ]);
      const total = columns.reduce((a, b) => a + b, 0);
      assertClose([total], [exact - Math.fround(data.at(-1)!)], 1e-6);
    }
  });

  Deno.test(`the max of anything with NaN is NaN, ${name}`, async () => {
    for (const at of [0, 3, 16, 36]) {
      const data = noise(37).map((x, i) => i === at ? NaN : x);
      assertEquals(await reduceOnce(backend, data, [], [37], [1], "max"), [
        NaN,
      ]);
      const rows = await reduceOnce(backend, [...data, ...data], [37], [2], [
        1,
        37,
      ], "max");
      rows.forEach((x, i) => assert(Number.isNaN(x) === (i === at)));
    }
  });

  Deno.test(`a sum with an infinity is infinite, ${name}`, async () => {
    const data = noise(3000).map((x, i) => i === 2000 ? Infinity : x);
    assertEquals(await reduceOnce(backend, data, [], [3000], [1]), [Infinity]);
  });
}

async function reduceOnce(
  backend: Backend,
  data: readonly number[],
  shape: Shape,
  over: Shape,
  strides: readonly number[],
  combine: "sum" | "max" = "sum",
): Promise<number[]> {
  const [, out] = await runKernel(backend, {
    kind: "reduce",
    shape,
    over,
    passes: [{
      reductions: [{ combine, body: load(0, { offset: 0, strides }) }],
      outputs: [],
    }],
    outputs: [{ buffer: 1, view: whole(shape), expr: acc() }],
  }, [{ dtype: "f32", data }, { dtype: "f32", data: noise(sizeOf(shape)) }]);
  return out!;
}

function numbers(count: number, dtype: DType, seed: number): number[] {
  return noise(count, seed).map((x) =>
    dtype === "f32" ? x : Math.round(dtype === "u32" ? 50 * (x + 1) : 50 * x)
  );
}
