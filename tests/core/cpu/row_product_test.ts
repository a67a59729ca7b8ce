/**
 * Products of few rows with a table, as decoding has them.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { createWasmBackend } from "../../../core/cpu/wasm.ts";
import { type Half, widen } from "../../../core/half.ts";
import type {
  Expr,
  MatmulKernel,
  Matrix,
  View,
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

const dtypes = fc.constantFrom("f32", "bf16", "f16");
const lengths = fc.constantFrom(1, 3, 4, 7, 8, 17, 32, 100, 127, 131, 400);
const widths = fc.constantFrom(8, 9, 11, 16, 23, 30, 67, 130);

/** How a matrix of a batch lies. */
const layouts = fc.record({
  isTransposed: fc.boolean(),
  /** Every other element of a row, or all. */
  step: fc.constantFrom(1, 1, 1, 2),
  /** Distance of rows in rows. */
  apart: fc.constantFrom(1, 2, -1),
  /** Whether a batch shares it. */
  isShared: fc.boolean(),
});

type Layout = typeof layouts extends fc.Arbitrary<infer T> ? T : never;

function layOut(
  shape: Shape,
  { isTransposed, step, apart, isShared }: Layout,
): { view: View; size: number } {
  const rank = shape.length - 2;
  const inner = [step, apart];
  return viewOf(
    shape,
    [
      ...shape.keys().take(rank),
      ...isTransposed ? [rank + 1, rank] : [rank, rank + 1],
    ],
    [
      ...shape.slice(0, rank).fill(isShared ? 0 : 1),
      ...isTransposed ? inner : inner.toReversed(),
    ],
  );
}

for (const [name, backend] of Object.entries(backends)) {
  Deno.test(`products of few rows equal loops, ${name}`, async () => {
    const property = fc.asyncProperty(
      fc.array(fc.constantFrom(1, 2, 3), { maxLength: 2 }),
      fc.tuple(fc.constantFrom(1, 1, 2, 3, 4), widths, lengths),
      fc.tuple(layouts, layouts, dtypes, dtypes),
      fc.boolean(),
      fc.nat(3),
      async (batch, [few, many, k], [inA, inB, typeA, typeB], isTall, form) => {
        const [m, n] = isTall ? [many, few] : [few, many];
        const shape = [...batch, m, n];
        const a = layOut([...batch, m, k], isTall ? inB : inA);
        const b = layOut([...batch, k, n], isTall ? inA : inB);
        const bias = load(
          3,
          { offset: 0, strides: [...batch.map(() => 0), 0, 1] },
          "bf16",
        );
        const wide = { kind: "cast", arg: bias, dtype: "f32" } as const;
        const residual = load(4, whole(shape));
        const sum = call("add", [call("add", [acc(), wide]), residual]);
        const exprs = [
          acc(),
          sum,
          call("maximum", [sum, constant(0)]),
          { kind: "cast", arg: acc(), dtype: "bf16" } as const,
        ];
        const expr = exprs[form]!;
        const kernel: MatmulKernel = {
          kind: "matmul",
          shape,
          k,
          a: { buffer: 0, view: a.view, dtype: isTall ? typeB : typeA },
          b: { buffer: 1, view: b.view, dtype: isTall ? typeA : typeB },
          outputs: [
            { buffer: 2, view: whole(shape), expr },
            { buffer: 5, view: whole(shape), expr: acc() },
          ],
        };
        const buffers: Buffer[] = [
          { dtype: kernel.a.dtype, data: noise(a.size, 1) },
          { dtype: kernel.b.dtype, data: noise(b.size, 2) },
          { dtype: expr.dtype, data: noise(sizeOf(shape)) },
          { dtype: "bf16", data: noise(n, 3) },
          { dtype: "f32", data: noise(sizeOf(shape), 4) },
          { dtype: "f32", data: noise(sizeOf(shape)) },
        ];
        const actual = await runKernel(backend, kernel, buffers);
        const expected = simulate(kernel, buffers);
        actual.forEach((x, i) => {
          const error = i === 2 && form === 3 ? 2 ** -8 : 1e-6;
          assertClose(x, expected[i]!, error, Math.sqrt(k) + 1);
        });
      },
    );
    await check(property, 150);
  });

  Deno.test(`a long sum of few rows loses little to rounding, ${name}`, async () => {
    const n = 40, k = 3072;
    for (const m of [1, 2, 4]) {
      for (const strides of [[n, 1], [1, k]]) {
        const data = [noise(m * k), noise(k * n, 2), noise(m * n)];
        const [, , c] = await runKernel(backend, {
          kind: "matmul",
          shape: [m, n],
          k,
          a: { buffer: 0, view: whole([m, k]), dtype: "f32" },
          b: { buffer: 1, view: { offset: 0, strides }, dtype: "f32" },
          outputs: [{ buffer: 2, view: whole([m, n]), expr: acc() }],
        }, data.map((data) => ({ dtype: "f32", data })));
        let squares = 0;
        for (let i = 0; i < m; i++) {
          for (let j = 0; j < n; j++) {
            let sum = 0;
            for (let p = 0; p < k; p++) {
              const at = p * strides[0]! + j * strides[1]!;
              sum += data[0]![i * k + p]! * data[1]![at]!;
            }
            squares += (c![i * n + j]! - sum) ** 2 / k;
          }
        }
        const error = Math.sqrt(squares / (m * n));
        assert(error < 8e-8, `root mean square ${error}`);
      }
    }
  });

  Deno.test(`bytes with a scale for each row or column meet few rows, ${name}`, async () => {
    const property = fc.asyncProperty(
      fc.tuple(fc.constantFrom(1, 1, 2, 3, 4), widths, lengths),
      fc.constantFrom([], [2]),
      fc.tuple(layouts, fc.constantFrom(0, 1), dtypes),
      fc.boolean(),
      async ([few, many, k], batch, [layout, axis, dtype], isTall) => {
        const [m, n] = isTall ? [many, few] : [few, many];
        const shape = [...batch, m, n];
        const table = isTall ? [...batch, m, k] : [...batch, k, n];
        const rows = isTall ? [...batch, k, n] : [...batch, m, k];
        const { view, size } = layOut(table, { ...layout, isShared: true });
        const along = new Array<number>(table.length).fill(0);
        const scale = load(3, {
          offset: 2,
          strides: along.with(batch.length + axis, 1),
        });
        const field: Expr = {
          kind: "unpack",
          buffer: 0,
          view,
          levels: null,
          dtype: "f32",
        };
        const packed: Matrix = {
          buffer: 0,
          view,
          dtype: "f32",
          expr: call("mul", [call("sub", [field, constant(128)]), scale]),
        };
        const plain: Matrix = { buffer: 1, view: whole(rows), dtype };
        const kernel: MatmulKernel = {
          kind: "matmul",
          shape,
          k,
          a: isTall ? packed : plain,
          b: isTall ? plain : packed,
          outputs: [{
            buffer: 2,
            view: whole(shape),
            expr: call("add", [acc(), load(2, whole(shape))]),
          }],
        };
        const words = noise(Math.ceil(size / 4), 7);
        const buffers: Buffer[] = [
          {
            dtype: "u32",
            data: words.map((x) => Math.floor((x + 1) * 2 ** 31)),
          },
          { dtype, data: noise(sizeOf(rows), 1) },
          { dtype: "f32", data: noise(sizeOf(shape), 2) },
          { dtype: "f32", data: noise(402, 3).map((x) => x / 128) },
        ];
        const actual = await runKernel(backend, kernel, buffers);
        const expected = simulate(kernel, buffers);
        assertClose(actual[2]!, expected[2]!, 1e-6, Math.sqrt(k) + 1);
      },
    );
    await check(property, 100);
  });

  Deno.test(`groups of four bits with a scale for each block meet few rows, ${name}`, async () => {
    const levels = noise(16, 9);
    const property = fc.asyncProperty(
      fc.tuple(fc.constantFrom(1, 1, 2, 3), widths, fc.constantFrom(1, 2, 5)),
      fc.record({
        times: fc.constantFrom(16, 64, 128),
        isOdd: fc.boolean(),
        apart: fc.constantFrom(1, 2, -1),
        start: fc.constantFrom(0, 1, 3),
      }),
      fc.constantFrom([], [2]),
      fc.boolean(),
      async ([few, many, count], form, batch, isTall) => {
        const { times, apart, start, isOdd } = form;
        const [m, n] = isTall ? [many, few] : [few, many];
        const k = count * times + (isOdd ? 16 : 0), shape = [...batch, m, n];
        const across = times * Math.ceil(k / times) * apart;
        const first = times * start - Math.min(0, across * (many - 1));
        const strides = [
          ...batch.map(() => 0),
          ...isTall ? [across, 1] : [1, across],
        ];
        const view = { offset: first, strides };
        const size = first + Math.abs(across) * many + k;
        const expr = call("mul", [
          { kind: "unpack", buffer: 0, view, levels, dtype: "f32" },
          {
            kind: "repeat",
            buffer: 3,
            view: { offset: first + times, strides },
            times,
            dtype: "f32",
          },
        ]);
        const packed: Matrix = { buffer: 0, view, dtype: "f32", expr };
        const rows = isTall ? [...batch, k, n] : [...batch, m, k];
        const plain: Matrix = { buffer: 1, view: whole(rows), dtype: "f32" };
        const kernel: MatmulKernel = {
          kind: "matmul",
          shape,
          k,
          a: isTall ? packed : plain,
          b: isTall ? plain : packed,
          outputs: [{ buffer: 2, view: whole(shape), expr: acc() }],
        };
        const words = noise(Math.ceil(size / 8), 7);
        const buffers: Buffer[] = [
          {
            dtype: "u32",
            data: words.map((x) => Math.floor((x + 1) * 2 ** 31)),
          },
          { dtype: "f32", data: noise(sizeOf(rows), 1) },
          { dtype: "f32", data: noise(sizeOf(shape)) },
          { dtype: "f32", data: noise(Math.ceil(size / times) + 1, 3) },
        ];
        const actual = await runKernel(backend, kernel, buffers);
        const expected = simulate(kernel, buffers);
        assertClose(actual[2]!, expected[2]!, 1e-6, Math.sqrt(k) + 1);
      },
    );
    await check(property, 60);
  });

  Deno.test(`halves that are endless, no numbers or subnormal meet few rows as they are, ${name}`, async () => {
    const n = 20, k = 39;
    for (const dtype of ["f16", "bf16"] as const) {
      const largest = numberOf(dtype === "f16" ? 0x7bff : 0x7f7f, dtype);
      const least = numberOf(1, dtype);
      for (const odd of [Infinity, -Infinity, NaN, largest, least, -least]) {
        for (const strides of [[n, 1], [1, k]]) {
          const table = new Array<number>(k * n).fill(0);
          for (let j = 0; j < n; j++) {
            table[(2 * j) % k * strides[0]! + j * strides[1]!] = odd;
          }
          const kernel: MatmulKernel = {
            kind: "matmul",
            shape: [1, n],
            k,
            a: { buffer: 0, view: whole([1, k]), dtype: "f32" },
            b: { buffer: 1, view: { offset: 0, strides }, dtype },
            outputs: [{ buffer: 2, view: whole([1, n]), expr: acc() }],
          };
          const [, , c] = await runKernel(backend, kernel, [
            { dtype: "f32", data: new Array(k).fill(0.5) },
            { dtype, data: table },
            { dtype: "f32", data: noise(n) },
          ]);
          assertEquals(c, new Array(n).fill(Math.fround(0.5 * odd)));
        }
      }
    }
  });
}

Deno.test("products of few rows have the same bits on any number of threads", async () => {
  const counts = [1, 2, 3].map((threads) =>
    createWasmBackend({ threads, eager: true })
  );
  // Two threads divide the columns of the first table, and the rows of the second.
  for (const [n, k] of [[1029, 301], [131, 500]] as const) {
    const cases = [1, 2, 3, 4].flatMap((m) =>
      (["f32", "bf16", "f16"] as const).flatMap((dtype) =>
        [[-n, 1], [1, k]].map((strides) => ({ m, dtype, strides }))
      )
    );
    for (const { m, dtype, strides } of cases) {
      const offset = strides[0]! < 0 ? n * (k - 1) : 0;
      const kernel: MatmulKernel = {
        kind: "matmul",
        shape: [m, n],
        k,
        a: { buffer: 0, view: whole([m, k]), dtype: "f32" },
        b: { buffer: 1, view: { offset, strides }, dtype },
        outputs: [{ buffer: 2, view: whole([m, n]), expr: acc() }],
      };
      const buffers: Buffer[] = [
        { dtype: "f32", data: noise(m * k) },
        { dtype, data: noise(k * n, 2) },
        { dtype: "f32", data: noise(m * n) },
      ];
      const [one, ...others] = await Promise.all(
        counts.map((backend) => runKernel(backend, kernel, buffers)),
      );
      for (const other of others) assertEquals(other[2], one![2]);
    }
  }
  for (const backend of counts) backend.dispose();
});

/** The number that bits stand for. */
function numberOf(bits: number, half: Half): number {
  return widen([bits], half)[0]!;
}
