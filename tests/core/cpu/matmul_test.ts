import { assert } from "@std/assert";
import fc from "fast-check";
import type { Backend } from "../../../core/backend.ts";
import type { MatmulKernel, View } from "../../../core/plan/kernel.ts";
import { type Shape, sizeOf, stridesOf } from "../../../core/shape.ts";
import { check } from "../../support/runs.ts";
import {
  acc,
  assertClose,
  backends,
  blasBackends,
  call,
  constant,
  load,
  noise,
  points,
  runKernel,
  simulate,
  whole,
} from "./support.ts";

const sizes = fc.constantFrom(0, 1, 2, 3, 5, 6, 7, 8, 13, 17, 64);
const batches = fc.array(fc.constantFrom(1, 2, 3), { maxLength: 2 });
const layouts = fc.constantFrom("plain", "transposed", "spread", "repeated");

/** How a matrix of a batch lies: rows or columns contiguous, neither, or one matrix for the whole batch. */
function layOut(
  shape: Shape,
  layout: "plain" | "transposed" | "spread" | "repeated",
): { view: View; size: number } {
  const [rows, columns] = shape.slice(-2) as [number, number];
  const batch = shape.slice(0, -2);
  const matrix = layout === "transposed"
    ? [1, rows]
    : layout === "spread"
    ? [2 * columns, 2]
    : [columns, 1];
  const size = rows * columns * (layout === "spread" ? 2 : 1);
  const outer = stridesOf(batch).map((s) =>
    layout === "repeated" ? 0 : s * size
  );
  return {
    view: { offset: 0, strides: [...outer, ...matrix] },
    size: size * sizeOf(batch),
  };
}

for (
  const [name, opened] of Object.entries({ ...backends, ...blasBackends })
) {
  const backend = opened!;
  const test = (what: string, fn: () => Promise<void>): void =>
    Deno.test({ name: `${what}, ${name}`, ignore: opened === null, fn });

  test("products of any sizes and layouts equal loops", async () => {
    const property = fc.asyncProperty(
      batches,
      fc.tuple(sizes, sizes, sizes),
      fc.tuple(layouts, layouts, layouts.filter((l) => l !== "repeated")),
      fc.nat(3),
      async (batch, [m, n, k], [inA, inB, inC], epilogue) => {
        const shape = [...batch, m, n];
        const a = layOut([...batch, m, k], inA);
        const b = layOut([...batch, k, n], inB);
        const c = layOut(shape, inC);
        const bias = load(3, {
          offset: 0,
          strides: shape.map((_, i) => i === shape.length - 1 ? 1 : 0),
        });
        const exprs = [
          acc(),
          call("maximum", [call("add", [acc(), bias]), constant(0)]),
          call("mul", [acc(), acc()]),
          call("add", [acc(), load(4, whole(shape))]),
        ] as const;
        const outputs = [{ buffer: 2, view: c.view, expr: exprs[epilogue]! }];
        if (epilogue === 2) {
          outputs.push({ buffer: 5, view: whole(shape), expr: acc() });
        }
        const kernel: MatmulKernel = {
          kind: "matmul",
          shape,
          k,
          a: { buffer: 0, view: a.view, dtype: "f32" },
          b: { buffer: 1, view: b.view, dtype: "f32" },
          outputs,
        };
        await checkProduct(backend, kernel, [
          a.size,
          b.size,
          c.size,
          n,
          sizeOf(shape),
          sizeOf(shape),
        ]);
      },
    );
    await check(property, 150);
  });

  test("products larger than a block equal loops", async () => {
    for (
      const [m, n, k] of [[70, 30, 600], [130, 530, 20], [7, 1040, 300], [
        1,
        64,
        700,
      ], [200, 1, 300]] as const
    ) {
      for (
        const [inA, inB] of [["plain", "plain"], ["transposed", "transposed"], [
          "spread",
          "plain",
        ], ["plain", "transposed"]] as const
      ) {
        const a = layOut([m, k], inA), b = layOut([k, n], inB);
        await checkProduct(backend, {
          kind: "matmul",
          shape: [m, n],
          k,
          a: { buffer: 0, view: a.view, dtype: "f32" },
          b: { buffer: 1, view: b.view, dtype: "f32" },
          outputs: [{
            buffer: 2,
            view: whole([m, n]),
            expr: call("add", [acc(), acc()]),
          }],
        }, [a.size, b.size, m * n]);
      }
    }
  });

  test("a product and what is computed of it are both stored, over several blocks", async () => {
    const [batch, m, n, k] = [2, 70, 37, 150];
    const shape = [batch, m, n];
    const views: Record<string, View> = {
      // [B, M, N], [M, B, N], [B, N, M] and [B, M, N, 2].
      plain: whole(shape),
      "rows apart": { offset: 0, strides: [n, batch * n, 1] },
      "by columns": { offset: 0, strides: [m * n, 1, m] },
      spread: { offset: 1, strides: [2 * m * n, 2 * n, 2] },
    };
    const relu = call("maximum", [acc(), constant(0)]);
    for (const first of Object.values(views)) {
      for (const second of Object.values(views)) {
        for (const exprs of [[acc(), relu], [relu, acc()], [relu, relu]]) {
          await checkProduct(backend, {
            kind: "matmul",
            shape,
            k,
            a: { buffer: 0, view: whole([batch, m, k]), dtype: "f32" },
            b: { buffer: 1, view: whole([batch, k, n]), dtype: "f32" },
            outputs: [
              { buffer: 2, view: first, expr: exprs[0]! },
              { buffer: 3, view: second, expr: exprs[1]! },
            ],
          }, [
            batch * m * k,
            batch * k * n,
            2 * sizeOf(shape),
            2 * sizeOf(shape),
          ]);
        }
      }
    }
  });

  test("a long sum of products loses little to rounding", async () => {
    const [m, n, k] = [13, 24, 2048];
    const data = [noise(m * k), noise(k * n, 2), noise(m * n)];
    const [, , c] = await runKernel(backend, {
      kind: "matmul",
      shape: [m, n],
      k,
      a: { buffer: 0, view: whole([m, k]), dtype: "f32" },
      b: { buffer: 1, view: whole([k, n]), dtype: "f32" },
      outputs: [{ buffer: 2, view: whole([m, n]), expr: acc() }],
    }, data.map((data) => ({ dtype: "f32", data })));
    const errors = points([m, n]).map(([i, j]) => {
      let sum = 0;
      for (let p = 0; p < k; p++) {
        sum += data[0]![i! * k + p]! * data[1]![p * n + j!]!;
      }
      return (c![i! * n + j!]! - sum) ** 2 / k;
    });
    const error = Math.sqrt(errors.reduce((a, b) => a + b) / (m * n));
    // A BLAS may take more of the inner size together.
    const bound = name in blasBackends ? 3e-7 : 8e-8;
    assert(error < bound, `root mean square ${error}`);
  });

  test("rows may repeat, overlap or run backwards", async () => {
    const [m, n, k] = [33, 20, 24];
    const view = (row: number, column: number, offset = 0): View => {
      return { offset, strides: [row, column] };
    };
    const lefts = [view(0, 1), view(5, 1), view(1, 0), view(-k, 1, m * k - k)];
    const rights = [view(n, 1), view(0, 1), view(1, 7), view(-n, 1, k * n - n)];
    const results = [view(n, 1), view(-n, 1, m * n - n)];
    for (const a of lefts) {
      for (const b of rights) {
        for (const c of results) {
          await checkProduct(backend, {
            kind: "matmul",
            shape: [m, n],
            k,
            a: { buffer: 0, view: a, dtype: "f32" },
            b: { buffer: 1, view: b, dtype: "f32" },
            outputs: [{ buffer: 2, view: c, expr: acc() }],
          }, [m * k, k * n, m * n]);
        }
      }
    }
  });

  test("operands may be parts of one buffer", async () => {
    const [batch, time, heads, size] = [2, 9, 3, 8];
    // Queries, keys and values side by side, as one product computes them.
    const row = 3 * heads * size;
    const head = (part: number, isTransposed = false): View => ({
      offset: part * heads * size,
      strides: [
        time * row,
        size,
        ...isTransposed ? [1, row] : [row, 1],
      ],
    });
    const shape = [batch, heads, time, time];
    await checkProduct(backend, {
      kind: "matmul",
      shape,
      k: size,
      a: { buffer: 0, view: head(0), dtype: "f32" },
      b: { buffer: 0, view: head(1, true), dtype: "f32" },
      outputs: [{ buffer: 1, view: whole(shape), expr: acc() }],
    }, [batch * time * row, batch * heads * time * time]);
  });
}

async function checkProduct(
  backend: Backend,
  kernel: MatmulKernel,
  counts: readonly number[],
): Promise<void> {
  const buffers = counts.map((count, i) => ({
    dtype: "f32" as const,
    data: noise(count, i + 1),
  }));
  const actual = await runKernel(backend, kernel, buffers);
  const expected = simulate(kernel, buffers);
  const scale = Math.sqrt(kernel.k) + 1;
  actual.forEach((x, i) => assertClose(x, expected[i]!, 2e-6, scale));
}
