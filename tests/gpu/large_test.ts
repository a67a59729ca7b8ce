import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { grad, init, jit, ones, type Tensor, tensor } from "cotan";
import { gpt2, type GPT2Params } from "cotan/nn";
import type { Data } from "../../core/dtype.ts";
import { widen } from "../../core/half.ts";
import type { Kernel, ReduceKernel, View } from "../../core/plan/kernel.ts";
import { sizeOf } from "../../core/shape.ts";
import { unflatten } from "../../nn/models/parameters.ts";
import { ignore, openBackend, scheduleNames } from "./adapter.ts";
import { softmax } from "./pass_samples.ts";
import {
  acc,
  accAt,
  call,
  checkKernel,
  fill,
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

/** Rows minus their means, in place. */
function centred(rows: number, length: number, strides: readonly number[]) {
  const x = load(0, strides);
  const mean = call("mul", [acc, fill(1 / length)]);
  const view = { offset: 0, strides };
  const expr = call("sub", [x, mean]);
  const { passes, ...sums } = reduction([rows], [length], "sum", x, []);
  const store = { reductions: [], outputs: [{ buffer: 0, view, expr }] };
  return { ...sums, passes: [...passes, store] };
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
        const x = load(0, [1, columns]);
        const square = call("mul", [x, x]);
        const [first, ...others] = [acc, accAt(1), accAt(2)].map((
          expr,
          i,
        ) => ({
          buffer: i + 1,
          view: { offset: 0, strides: [1] },
          expr,
        }));
        const one = reduction([columns], [rows], "sum", x, [first!]);
        const three: ReduceKernel = {
          ...one,
          passes: [{
            reductions: [
              { combine: "sum", body: x },
              { combine: "max", body: x },
              { combine: "sum", body: square },
            ],
            outputs: [],
          }],
          outputs: [first!, ...others],
        };
        for (const kernel of [one, three]) {
          await checkKernel(backend, kernel, [
            wave(rows * columns),
            ...kernel.outputs.map(() => new Float32Array(columns)),
          ], 1e-4);
        }
      }
      backend.dispose();
    },
  });

  Deno.test({
    name: `loops of more than 65536 iterations are right, ${schedule} schedule`,
    ignore,
    fn: async () => {
      const backend = await openBackend(schedule);
      const length = 70001;
      // Few rows, which are taken apart; then more rows, and columns.
      await checkKernel(backend, softmax(2, length, 0), [wave(2 * length)]);
      for (const strides of [[length, 1], [1, 20]] as const) {
        const x = wave(20 * length).map((v, i) => v + i % 3);
        const kernel = centred(20, length, strides);
        const [found] = await runKernel(backend, kernel, [x]);
        for (let row = 0; row < 20; row++) {
          const at = (i: number): number => row * strides[0] + i * strides[1];
          let mean = 0;
          for (let i = 0; i < length; i++) mean += x[at(i)]! / length;
          for (const i of [0, 1, 64, 35000, 70000]) {
            assertAlmostEquals(found![at(i)]!, x[at(i)]! - mean, 1e-5);
          }
        }
      }
      // Counts of the residues of 7.
      const [counts] = await runKernel(backend, {
        kind: "scatter",
        shape: [length, 1],
        axis: 0,
        buffer: 0,
        view: { offset: 0, strides: [0, 0] },
        stride: 1,
        size: 7,
        index: load(1, [1, 0], "i32"),
        source: fill(1),
      }, [
        new Float32Array(7),
        Int32Array.from({ length }, (_, i) => i % 7),
      ]);
      assertEquals(
        counts,
        Float32Array.of(10001, 10000, 10000, 10000, 10000, 10000, 10000),
      );
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
            a: {
              buffer: 0,
              view: { offset: 0, strides: [k, 1] },
              dtype: "f32",
            },
            b: {
              buffer: 1,
              view: { offset: 0, strides: [n, 1] },
              dtype: "f32",
            },
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
            a: { buffer: 0, view: a, dtype: "f32" },
            b: { buffer: 1, view: b, dtype: "f32" },
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

Deno.test({
  name: "an embedding longer than a binding is read, multiplied and added to",
  ignore,
  fn: async () => {
    using _ = await init({ backend: "webgpu" });
    const [V, C] = [50257, 768];
    const element = (row: number, column: number): number =>
      (row * 31 + column * 7) % 1009 / 512 - 1;
    const data = new Float32Array(V * C);
    for (let row = 0, i = 0; row < V; row++) {
      for (let column = 0; column < C; column++) {
        data[i++] = element(row, column);
      }
    }
    using table = tensor(data, { shape: [V, C] });

    // A binding of 128 MiB ends in row 43690.
    const rows = [0, 1, 25000, 43689, 43690, 43691, 50256, 43690];
    using index = tensor(Int32Array.from(rows));
    using taken = table.take(index);
    const found = await taken.data();
    rows.forEach((row, i) =>
      assertEquals(
        found.subarray(i * C, (i + 1) * C),
        data.subarray(row * C, (row + 1) * C),
      )
    );

    const x = wave(C);
    using query = tensor(x, { shape: [1, C] });
    using multiply = jit((x: Tensor, w: Tensor) => x.matmul(w.transpose()));
    using product = multiply(query, table);
    const logits = await product.data();
    for (const row of [0, 1, 25000, 43689, 43690, 43691, 50255, 50256]) {
      const exact = x.reduce((sum, v, c) => sum + v * element(row, c), 0);
      assertAlmostEquals(logits[row]!, exact, 1e-3);
    }

    using loss = jit(
      grad((table: Tensor, index: Tensor, scales: Tensor) =>
        table.take(index).mul(scales).sum()
      ),
    );
    using scales = tensor(wave(rows.length), { shape: [rows.length, 1] });
    using gradient = loss(table, index, scales);
    const added = new Map<number, number>();
    wave(rows.length).forEach((scale, i) =>
      added.set(rows[i]!, Math.fround((added.get(rows[i]!) ?? 0) + scale))
    );
    const slopes = await gradient.data();
    for (let row = 0; row < V; row++) {
      const exact = added.get(row) ?? 0;
      const part = slopes.subarray(row * C, (row + 1) * C);
      assert(part.every((v) => v === exact), `row ${row}`);
    }
  },
});

for (const dtype of ["f32", "bf16"] as const) {
  Deno.test({
    name: `GPT-2 small with matrices of ${dtype} gives what wasm gives`,
    ignore,
    fn: async () => {
      const model = gpt2({
        vocab_size: 50257,
        n_embd: 768,
        n_layer: 12,
        n_head: 12,
      });
      const bits = noise(50257 * 768);
      const wide = widen(bits, "bf16");
      const run = async (backend: "webgpu" | "wasm"): Promise<Data> => {
        using _ = await init({ backend });
        const params = unflatten(
          Object.entries(model.shapes).map(([path, shape]) => {
            if (/ln_.*weight/.test(path)) return [path, ones(shape)];
            const size = sizeOf(shape);
            const isHalf = dtype === "bf16" && shape.length === 2;
            return [
              path,
              isHalf
                ? tensor(bits.subarray(0, size), { shape, dtype })
                : tensor(wide.subarray(0, size), { shape }),
            ];
          }),
        ) as GPT2Params;
        using forward = jit(model.apply);
        using ids = tensor([[0, 43689, 43690, 43691, 7, 25000, 50256, 464]], {
          dtype: "i32",
        });
        using logits = forward(params, ids);
        return await logits.data();
      };
      const found = await run("webgpu");
      const expected = await run("wasm");
      assertEquals(found.length, 8 * 50257);
      let largest = 0, error = 0;
      found.forEach((x, i) => {
        assert(Number.isFinite(x), `logit ${i} is ${x}`);
        largest = Math.max(largest, Math.abs(expected[i]!));
        error = Math.max(error, Math.abs(x - expected[i]!));
      });
      assert(largest > 1e-2, `logits are at most ${largest}`);
      assert(error < 1e-4 * largest, `off by ${error} of ${largest}`);
    },
  });
}

/** Bits of bf16 between 2^-7 and 2^-6 of either sign, from a linear congruential generator. */
function noise(size: number): Uint16Array {
  const bits = new Uint16Array(size);
  let state = 1;
  for (let i = 0; i < size; i++) {
    state = Math.imul(state, 1664525) + 1013904223 | 0;
    bits[i] = 0x3c00 | state >>> 25 | state >>> 8 & 0x8000;
  }
  return bits;
}
