/**
 * Tests of the simplification of graphs.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { full, grad, jit, random, type Tensor, tensor } from "cotan";
import { assertClose } from "../../support/allclose.ts";
import { inFloat64 } from "../../support/backends.ts";

inFloat64("transposed products of one shape stay apart", async () => {
  const [q, k, v, x] = random.split(random.key(0), 4)
    .map((key) => random.normal(key, [4, 4])) as [
      Tensor,
      Tensor,
      Tensor,
      Tensor,
    ];
  const linear = (w: Tensor) => x.matmul(w.transpose());
  type Weights = { q: Tensor; k: Tensor; v: Tensor };
  const loss = (p: Weights) =>
    linear(p.q).mul(linear(p.k)).mul(linear(p.v).sin()).sum();
  const all = grad(loss)({ q, k, v });
  const alone = {
    q: grad((q: Tensor) => loss({ q, k, v }))(q),
    k: grad((k: Tensor) => loss({ q, k, v }))(k),
    v: grad((v: Tensor) => loss({ q, k, v }))(v),
  };
  for (const name of ["q", "k", "v"] as const) {
    await assertClose(all[name], alone[name], { rtol: 1e-12, atol: 1e-12 });
  }
});

inFloat64("the gradient of a transposed weight needs no copy", () => {
  const [w, x] = random.split(random.key(0))
    .map((key, i) => random.normal(key, [3 + i, 5])) as [Tensor, Tensor];
  using slope = jit((w: Tensor, x: Tensor) =>
    grad((w: Tensor) => x.matmul(w.transpose()).square().sum())(w)
  );
  const { kernels } = slope.program(w, x);
  assertEquals(kernels.filter(({ kind }) => kind === "map").length, 0);
});

inFloat64("what changes nothing costs no kernel", () => {
  const x = random.normal(random.key(0), [2, 3]);
  using f = jit((x: Tensor) =>
    x.mul(1).add(0).transpose().transpose().reshape([6]).reshape([2, 3])
      .unsqueeze(0).max({ axis: 0 }).unsqueeze(0).sum({ axis: 0 })
      .stopGradient().neg().neg().exp()
  );
  assertEquals(f.program(x).kernels.map(({ kind }) => kind), ["map"]);
});

inFloat64("what is computed of numbers alone is a number", async () => {
  const x = tensor([2, 3], { dtype: "i32" });
  using f = jit((x: Tensor) =>
    x.mul(full([2], -7, { dtype: "i32" }).div(2).add(2 ** 31 - 1))
      .add(full([2], 9).sqrt().exp().lt(20).cast("i32").sub(5))
  );
  assertEquals(f.program(x).flops, 2 * 2, "a product and a sum");
  // -3 + 2³¹ - 1 wraps around in the product.
  const factor = 2 ** 31 - 4;
  assertEquals(
    await f(x).toArray(),
    [2, 3].map((n) => Math.imul(n, factor) - 5),
  );
});
