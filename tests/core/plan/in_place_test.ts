/**
 * Donated inputs are added to where they lie.
 *
 * @module
 */

import { assertAlmostEquals, assertEquals } from "@std/assert";
import { concat, jit, type Tensor, tensor, zeros } from "cotan";
import { eachBackend, hasWebGpu } from "../../support/backends.ts";

const ints = (...list: number[]): Tensor => tensor(Int32Array.from(list));

/** The kinds of the kernels of a program. */
function kindsOf(program: { kernels: readonly { kind: string }[] }): string[] {
  return program.kernels.map(({ kind }) => kind);
}

eachBackend(
  "a donated tensor is added to in place by a scatter alone",
  async () => {
    using add = jit(
      (x: Tensor, at: Tensor, y: Tensor) => x.scatterAdd(at, y),
      { donate: [0] },
    );
    const program = add.program(zeros([4]), ints(1, 1), zeros([2]));
    assertEquals(kindsOf(program), ["scatter"]);
    const sum = add(tensor([1, 2, 3, 4]), ints(3, 1), tensor([10, 20]));
    assertEquals(await sum.toArray(), [1, 22, 3, 14]);
  },
  // The reference backend makes no plan.
  hasWebGpu ? ["wasm", "webgpu"] : ["wasm"],
);

eachBackend(
  "what is added may be read from the donated tensors before, of several at once",
  async () => {
    type Pair = { readonly a: Tensor; readonly b: Tensor };
    const replace = (x: Tensor, at: Tensor, y: Tensor): Tensor =>
      x.scatterAdd(concat([at, at]), concat([x.take(at).neg(), y]));
    using both = jit(
      ({ a, b }: Pair, at: Tensor, y: Tensor) => {
        const first = replace(a, at, y);
        // What follows from the first comes between.
        return { a: first, b: replace(b, at, y.add(first.sum())) };
      },
      { donate: [0] },
    );
    const fresh = (): Pair => ({
      a: tensor([1, 2, 3, 4]),
      b: tensor([5, 6, 7, 8]),
    });
    const program = both.program(fresh(), ints(2), tensor([9]));
    assertEquals(kindsOf(program).filter((k) => k === "scatter").length, 2);
    assertEquals(
      program.kernels.some(({ shape }) => `${shape}` === "4"),
      false,
      String(program),
    );
    const { a, b } = both(fresh(), ints(2), tensor([9]));
    assertEquals(await a.toArray(), [1, 2, 9, 4]);
    assertEquals(await b.toArray(), [5, 6, 25, 8]);
  },
  hasWebGpu ? ["wasm", "webgpu"] : ["wasm"],
);

eachBackend("a tensor that stays the caller's is copied first", async () => {
  using add = jit((x: Tensor, at: Tensor, y: Tensor) => x.scatterAdd(at, y));
  const x = tensor([1, 2, 3, 4]);
  const sum = add(x, ints(3), tensor([10]));
  assertEquals(await sum.toArray(), [1, 2, 3, 14]);
  assertEquals(await x.toArray(), [1, 2, 3, 4]);
});

eachBackend(
  "a donated tensor that is read after, or given back too, is not changed",
  async () => {
    const at = ints(1, 1), y = tensor([10, 20]);
    const x = (): Tensor => tensor([1, 2, 3, 4]);
    const sum = (x: Tensor): Tensor => x.scatterAdd(at, y);
    using product = jit((x: Tensor) => sum(x).mul(x.flip(0)).add(x), {
      donate: [0],
    });
    assertEquals(await product(x()).toArray(), [5, 98, 9, 8]);
    using both = jit((x: Tensor) => [sum(x), x, x.reshape([2, 2])], {
      donate: [0],
    });
    const given = await Promise.all(both(x()).map((z) => z.toArray()));
    assertEquals(given, [[1, 32, 3, 4], [1, 2, 3, 4], [[1, 2], [3, 4]]]);
    using own = jit((x: Tensor) => x.scatterAdd(at, x.slice([[0, 2]])), {
      donate: [0],
    });
    assertEquals(await own(x()).toArray(), [1, 5, 3, 4]);
    using inner = jit((x: Tensor) => sum(x).exp().sum(), { donate: [0] });
    const total = [1, 32, 3, 4].reduce((s, v) => s + Math.exp(v), 0);
    assertAlmostEquals(await inner(x()).item() / total, 1, 1e-5);
  },
);

eachBackend(
  "what is added to a scatter into zeros is scattered into where it lies",
  async () => {
    const f = (x: Tensor, at: Tensor, y: Tensor): Tensor =>
      zeros([4]).scatterAdd(at, y).add(
        x.reshape([2, 2]).matmul(x.reshape([2, 2])).reshape([4]),
      );
    using both = jit(f);
    const operands = [
      tensor([1, 2, 3, 4]),
      ints(3, 1, 3),
      tensor([10, 20, 30]),
    ] as const;
    assertEquals(kindsOf(both.program(...operands)), ["matmul", "scatter"]);
    assertEquals(await both(...operands).toArray(), [7, 30, 15, 62]);
    // Not where it is read besides.
    using kept = jit((x: Tensor, at: Tensor, y: Tensor) => {
      const square = x.square();
      const sum = zeros([4]).scatterAdd(at, y).add(square);
      return [sum, square, square.flip(0).add(sum)];
    });
    const given = await Promise.all(
      kept(...operands).map((z) => z.toArray()),
    );
    assertEquals(given, [
      [1, 24, 9, 56],
      [1, 4, 9, 16],
      [17, 33, 13, 57],
    ]);
  },
  hasWebGpu ? ["wasm", "webgpu"] : ["wasm"],
);
