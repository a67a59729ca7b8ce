/**
 * Tests of fusion: which kernels become one, and which do not.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { concat, jit, softmax, type Tensor, tensor } from "cotan";
import { eachBackend } from "../../support/backends.ts";
import { kindsOf, programOf } from "../../support/programs.ts";

Deno.test("what reads the same tensor is computed in one walk", () => {
  const row = { axis: -1 };
  const program = programOf(
    (x) => [x.sum(row), x.square().max(row), x.exp()],
    [[32, 64]],
  );
  assertEquals(kindsOf(program), ["reduce"]);
  assertEquals(
    kindsOf(programOf((x) => [x.sin(), x.reshape([2048]).cos()], [[32, 64]])),
    ["map"],
  );
});

Deno.test("what is read only where it is computed takes no memory", () => {
  const row = { axis: -1, keepDims: true };
  for (
    const f of [
      (x: Tensor) => softmax(x),
      (x: Tensor) => x.sub(x.mean(row)).div(x.variance(row).sqrt()),
    ]
  ) {
    const program = programOf(f, [[32, 64]]);
    assertEquals(kindsOf(program), ["reduce"]);
    assertEquals(program.arenaBytes, 0);
  }
});

Deno.test("several walks become one kernel along rows, not across columns", () => {
  const across = programOf((x) => softmax(x, { axis: 0 }), [[32, 64]]);
  assertEquals(kindsOf(across), ["reduce", "reduce", "map"]);
  const columns = programOf((x) => softmax(x, { axis: 0 }), [[32, 1]]);
  assertEquals(kindsOf(columns), ["reduce"]);
});

Deno.test("a few long rows are walked by several kernels", () => {
  const kernels = (shape: number[]) =>
    programOf((x) => softmax(x), [shape]).kernels;
  assertEquals(kernels([16, 2 ** 16 + 1]).length, 1);
  assertEquals(kernels([2, 2 ** 16]).length, 1);
  assertEquals(kernels([2, 2 ** 16 + 1]).length, 3);
});

Deno.test("sums over different axes are loops of their own, also of a square", () => {
  for (const shape of [[8, 8], [8, 9]]) {
    const program = programOf(
      (x) => [x.sum({ axis: 0 }), x.sum({ axis: 1 })],
      [shape],
    );
    assertEquals(kindsOf(program), ["group"]);
  }
});

eachBackend("a part of a joined tensor is what its piece is", async () => {
  using f = jit((x: Tensor, y: Tensor) => {
    const both = concat([x.square(), y.neg()]);
    const [first, second] = [[0, 2], [2, 4]].map((at) =>
      both.slice([at as [number, number]]).add(1).mul(10)
    );
    return [both, second!, first!];
  });
  const results = f(tensor([2, 3]), tensor([5, 6])) as unknown as Tensor[];
  assertEquals(await Promise.all(results.map((x) => x.toArray())), [
    [4, 9, -5, -6],
    [-40, -50],
    [50, 100],
  ]);
});
