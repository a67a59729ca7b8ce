import { assert, assertEquals } from "@std/assert";
import type { Kernel, View } from "../../core/plan/kernel.ts";
import { ignore, openBackend, scheduleNames } from "./adapter.ts";
import {
  acc,
  call,
  checkKernel,
  load,
  reduction,
  runKernel,
  wave,
} from "./run.ts";

const scalar = { offset: 0, strides: [] };

/** A sum or largest element of all of one buffer. */
function total(length: number, combine: "sum" | "max"): Kernel {
  const outputs = [{ buffer: 1, view: scalar, expr: acc }];
  return reduction([], [length], combine, load(0, [1]), outputs);
}

for (const schedule of scheduleNames) {
  Deno.test({
    name:
      `a sum of a million terms is right to a millionth, ${schedule} schedule`,
    ignore,
    fn: async () => {
      const backend = await openBackend(schedule);
      for (const length of [1e6, 1000003]) {
        const x = wave(length).map((v) => v + 3);
        const exact = x.reduce((sum, v) => sum + v, 0);
        const out = new Float32Array(1);
        const [sum] = await runKernel(backend, total(length, "sum"), [x, out]);
        const error = Math.abs(sum![0]! / exact - 1);
        assert(error < 1e-6, `the sum of ${length} terms is off by ${error}`);
      }
      backend.dispose();
    },
  });

  Deno.test({
    name:
      `the largest of a million is found, and NaN wins, ${schedule} schedule`,
    ignore,
    fn: async () => {
      const backend = await openBackend(schedule);
      const x = wave(1000003);
      const out = new Float32Array(1);
      const kernel = total(x.length, "max");
      x[777777] = 5;
      assertEquals(await runKernel(backend, kernel, [x, out]), [
        Float32Array.of(5),
      ]);
      x[123456] = NaN;
      assertEquals(await runKernel(backend, kernel, [x, out]), [
        Float32Array.of(NaN),
      ]);
      x.fill(-Infinity);
      assertEquals(await runKernel(backend, kernel, [x, out]), [
        Float32Array.of(-Infinity),
      ]);
      backend.dispose();
    },
  });

  Deno.test({
    name: `few columns of many rows are summed in pieces, ${schedule} schedule`,
    ignore,
    fn: async () => {
      const backend = await openBackend(schedule);
      for (const [rows, columns] of [[8192, 12], [5003, 7]] as const) {
        await checkKernel(
          backend,
          reduction([columns], [rows], "sum", load(0, [1, columns]), [{
            buffer: 1,
            view: { offset: 0, strides: [1] },
            expr: acc,
          }]),
          [wave(rows * columns), new Float32Array(columns)],
          1e-4,
        );
      }
      backend.dispose();
    },
  });

  Deno.test({
    name: `products with a long inner axis are right, ${schedule} schedule`,
    ignore,
    fn: async () => {
      const backend = await openBackend(schedule);
      const sizes = [[8, 8, 4096], [1, 40, 3001], [40, 1, 3001], [3, 20, 2048]];
      for (const [m, n, k] of sizes as [number, number, number][]) {
        await checkKernel(
          backend,
          {
            kind: "matmul",
            shape: [m, n],
            k,
            a: { buffer: 0, view: { offset: 0, strides: [k, 1] } },
            b: { buffer: 1, view: { offset: 0, strides: [n, 1] } },
            outputs: [{
              buffer: 2,
              view: { offset: 0, strides: [n, 1] },
              expr: call("add", [acc, load(3, [0, 1])]),
            }],
          },
          [wave(m * k), wave(k * n, 3), new Float32Array(m * n), wave(n)],
          1e-4,
        );
      }
      backend.dispose();
    },
  });
}

/** A matrix of rows by columns, row by row or column by column. */
function matrix(rows: number, columns: number, byColumn: boolean): View {
  return { offset: 0, strides: byColumn ? [1, rows] : [columns, 1] };
}

for (const schedule of scheduleNames) {
  Deno.test({
    name: `products of many sizes are right, ${schedule} schedule`,
    ignore,
    fn: async (t) => {
      const backend = await openBackend(schedule);
      const sizes: [m: number, n: number, k: number][] = [
        [500, 500, 500],
        [512, 256, 128],
        [257, 130, 65],
        [1024, 8, 768],
        [8, 768, 1024],
        [1023, 1027, 1030],
      ];
      for (const [i, [m, n, k]] of sizes.entries()) {
        await t.step(`${m} by ${n} by ${k}`, async () => {
          const a = matrix(m, k, i % 2 === 1);
          const b = matrix(k, n, i % 3 === 1);
          const [x, y] = [wave(m * k), wave(k * n, 3)];
          const [found] = await runKernel(backend, {
            kind: "matmul",
            shape: [m, n],
            k,
            a: { buffer: 0, view: a },
            b: { buffer: 1, view: b },
            outputs: [{ buffer: 2, view: matrix(m, n, false), expr: acc }],
          }, [x, y, new Float32Array(m * n)]);
          // Every element would take long; a prime step meets all rows and columns of tiles.
          for (let at = 0; at < m * n; at += 997) {
            const [row, column] = [Math.floor(at / n), at % n];
            let exact = 0;
            for (let u = 0; u < k; u++) {
              exact += x[row * a.strides[0]! + u * a.strides[1]!]! *
                y[u * b.strides[0]! + column * b.strides[1]!]!;
            }
            const error = Math.abs(found![at]! - exact);
            assert(error < 1e-6 * k, `[${row}, ${column}] is off by ${error}`);
          }
        });
      }
      backend.dispose();
    },
  });
}

Deno.test({
  name: "more workgroups than one axis of a dispatch has are folded",
  ignore,
  fn: async () => {
    const backend = await openBackend();
    const length = 65535 * 64 + 77;
    const x = Float32Array.from({ length }, (_, i) => i % 1000);
    const [found] = await runKernel(backend, {
      kind: "map",
      shape: [length],
      outputs: [{
        buffer: 1,
        view: { offset: 0, strides: [1] },
        expr: call("add", [load(0, [1]), load(0, [1])]),
      }],
    }, [x, new Float32Array(length)]);
    assertEquals(found, x.map((v) => 2 * v));
    backend.dispose();
  },
});
