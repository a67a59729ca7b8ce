/**
 * Programs of halves: each is widened by the kernel that uses it, and takes two bytes wherever it is stored.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import {
  checkpoint,
  concat,
  full,
  jit,
  ones,
  type Program,
  scan,
  type Tensor,
  tensor,
  valueAndGrad,
  zeros,
} from "cotan";
import { assertClose } from "../../support/allclose.ts";
import { eachBackend } from "../../support/backends.ts";

const halves = ["f16", "bf16"] as const;

const table = Uint16Array.from({ length: 600 }, (_, i) => 0x3f80 + 7 * i);

eachBackend("rows of a table are widened after they are picked", async () => {
  const w = tensor(table, { shape: [60, 10], dtype: "bf16" });
  const ids = tensor([3, 59, 3], { dtype: "i32" });
  using rows = jit((w, ids) => w.cast("f32").take(ids));
  const { kernels, arenaBytes } = rows.program(w, ids);
  assertEquals([kernels.length, arenaBytes], [1, 0]);
  assertEquals(kernels[0]!.bytes, 600 * 2 + 3 * 4 + 30 * 4);
  const expected = await w.data();
  assertEquals(
    [...await rows(w, ids).data()],
    [3, 59, 3].flatMap((row) => [...expected.slice(10 * row, 10 * row + 10)]),
  );
});

eachBackend(
  "a half is widened where it is used, and never stored wide",
  async () => {
    const w = tensor(table, { shape: [20, 30], dtype: "bf16" });
    const x = ones([8, 30]);
    using f = jit((x, w) => {
      const wide = w.cast("f32");
      return {
        product: x.matmul(wide.transpose()).add(1).relu(),
        other: x.transpose().matmul(x).matmul(wide.transpose()),
        row: x.slice([[0, 1]]).matmul(wide.transpose()),
        sum: wide.slice([[2, 9], [1, null]]).mul(2).sum({ axis: 0 }),
        map: wide.reshape([30, 20]).flip(0).add(1),
      };
    });
    const program = f.program(x, w);
    // The arena holds xᵀx alone.
    assert(program.arenaBytes <= 3840, String(program));
    assertEquals(program.kernels.length, 5, String(program));
    const found = f(x, w);
    using wide = w.cast("f32");
    using plain = jit((x, w) => x.matmul(w.transpose()).add(1).relu());
    await assertClose(found.product, plain(x, wide), { terms: 30 });
    await assertClose(found.row, plain(x.slice([[0, 1]]), wide).sub(1), {
      terms: 30,
    });
    await assertClose(
      found.sum,
      wide.slice([[2, 9], [1, null]]).mul(2).sum({ axis: 0 }),
      { terms: 7 },
    );
    await assertClose(found.map, wide.reshape([30, 20]).flip(0).add(1));
  },
);

eachBackend(
  "a product by a half is one kernel, however the half lies",
  async () => {
    const shapes = [[1, 5, 3], [4, 8, 16], [13, 7, 9], [70, 97, 33], [
      3,
      64,
      600,
    ]];
    for (const [m, k, n] of shapes as [number, number, number][]) {
      for (const half of halves) {
        const fill = (size: number, seed: number): Tensor =>
          tensor(
            Float32Array.from({ length: size }, (_, i) => Math.sin(seed + i)),
            { dtype: half },
          );
        const a = fill(m * k, 1), b = fill(k * n, 2);
        for (const layout of [0, 1, 2, 3]) {
          const left = (x: Tensor) =>
            layout & 1 ? x.reshape([k, m]).transpose() : x.reshape([m, k]);
          const right = (x: Tensor) =>
            layout & 2 ? x.reshape([n, k]).transpose() : x.reshape([k, n]);
          using f = jit((a: Tensor, b: Tensor) =>
            left(a).cast("f32").matmul(right(b.cast("f32")))
          );
          using toHalf = jit((a: Tensor, b: Tensor) =>
            left(a.cast("f32")).matmul(right(b).cast("f32")).mul(2).cast(half)
          );
          for (const g of [f, toHalf]) {
            const { kernels } = g.program(a, b);
            assertEquals(kernels.length, 1, String(g.program(a, b)));
          }
          const wide = [a.cast("f32"), b.cast("f32")] as const;
          using expected = left(wide[0]).matmul(right(wide[1]));
          using found = f(a, b);
          await assertClose(found, expected, { terms: k });
          using narrow = toHalf(a, b);
          assertEquals(String(narrow), `${half}[${m}, ${n}]`);
          await assertClose(narrow, await expected.mul(2).data(), {
            rtol: half === "f16" ? 2e-3 : 1e-2,
            atol: 1e-5,
          });
        }
      }
    }
  },
);

eachBackend(
  "results of every kind of kernel are stored as halves",
  async () => {
    const x = tensor(Float32Array.from({ length: 105 }, (_, i) => i / 8 - 6), {
      shape: [7, 15],
    });
    const kinds: Record<string, (x: Tensor) => Tensor> = {
      map: (x) => x.mul(2),
      across: (x) => x.transpose().add(1),
      rows: (x) => x.sum({ axis: 1 }),
      columns: (x) => x.max({ axis: 0 }),
      softmax: (x) => x.softmax(),
      joined: (x) => concat([x, x.neg()], { axis: 1 }),
      margins: (x) => x.pad([[1, 2], [0, 2]]),
    };
    for (const [name, f] of Object.entries(kinds)) {
      for (const half of halves) {
        using narrow = jit((x: Tensor) => f(x).cast(half));
        using wide = jit((x: Tensor) => f(x));
        using expected = wide(x).cast(half);
        // Sums may differ in their last bit before they are rounded.
        await assertClose(narrow(x), expected, { rtol: 2 ** -7, what: name });
      }
    }
  },
);

eachBackend("the plan of a half counts two bytes an element", () => {
  using f = jit((x) => x.mul(2).cast("f16"));
  const { kernels, peakBytes } = f.program(ones([10]));
  assertEquals([kernels[0]!.bytes, peakBytes], [60, 60]);
});

type Adapter = { readonly a: Tensor; readonly b: Tensor };

for (const wrap of [(f: typeof block) => f, checkpoint]) {
  const name = wrap === checkpoint ? "a checkpointed step" : "a step";
  eachBackend(
    `${name} with frozen bf16 takes the kernels of one with f32, and fewer bytes`,
    () => {
      const programs = (["f32", "bf16"] as const).map((dtype) => {
        const half = (...shape: number[]) => ones(shape, { dtype });
        const loss = (p: Adapter, table: Tensor, w: Tensor, ids: Tensor) => {
          const x = wrap(block)(p, table.cast("f32").take(ids), w);
          return x.matmul(table.cast("f32").transpose()).logSoftmax().mean();
        };
        using step = jit(valueAndGrad(loss));
        const adapter = { a: ones([4, 32]), b: ones([32, 4]) };
        const ids = zeros([2, 8], { dtype: "i32" });
        return step.program(adapter, half(50, 32), half(32, 32), ids);
      });
      const [wide, narrow] = programs as [Program, Program];
      assertEquals(narrow.kernels.length, wide.kernels.length, String(narrow));
      assert(narrow.arenaBytes <= wide.arenaBytes, String(narrow));
      assert(narrow.bytes < wide.bytes, String(narrow));
    },
  );
}

function block({ a, b }: Adapter, x: Tensor, w: Tensor): Tensor {
  const update = x.matmul(a.transpose()).matmul(b.transpose());
  return x.add(x.matmul(w.cast("f32").transpose()).add(update).silu());
}

eachBackend("what a program keeps as halves takes two bytes as well", () => {
  using f = jit((x: Tensor) => concat([x, x]).cast("f32").sum());
  const { arenaBytes } = f.program(zeros([2048], { dtype: "bf16" }));
  assertEquals(arenaBytes, 2 * 2 * 2048);
});

eachBackend("a loop widens a half from outside where it uses it", async () => {
  const w = tensor(table.subarray(0, 400), { shape: [20, 20], dtype: "bf16" });
  const xs = tensor(table.subarray(0, 3), { dtype: "bf16" });
  const run = (x: Tensor, w: Tensor, xs: Tensor): Tensor => {
    const wide = w.cast("f32").transpose();
    return scan(
      (x: Tensor, by: Tensor) => ({ carry: x.matmul(wide).mul(by), y: null }),
      x,
      xs.cast("f32"),
    ).carry;
  };
  const x = full([2, 20], 1e-2);
  using f = jit(run);
  assert(f.program(x, w, xs).arenaBytes < 1600, String(f.program(x, w, xs)));
  using plain = jit(run);
  const expected = plain(x, w.cast("f32"), xs.cast("f32"));
  await assertClose(f(x, w, xs), expected, { rtol: 1e-4 });
});
