/**
 * Tests of functions with gradients of their own.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import {
  customVjp,
  DTypeError,
  grad,
  jit,
  jvp,
  scan,
  type Tensor,
  tensor,
  TreeError,
  vmap,
} from "cotan";
import { checkGrads } from "cotan/testing";
import { assertClose } from "../support/allclose.ts";
import { eachBackend, inFloat64 } from "../support/backends.ts";
import { f32, i32, throws } from "../support/throws.ts";

/** log(1 + eˣ) with the derivative that keeps its precision. */
const softplus = customVjp((x: Tensor) => x.exp().add(1).log(), {
  fwd: (x) => {
    const out = x.exp().add(1).log();
    return { out, residuals: { x } };
  },
  bwd: ({ x }, ct) => [ct.mul(x.sigmoid())],
});

/** A function whose gradient is wrong, so that one sees where it is used. */
const marked = customVjp((x: Tensor) => x.mul(2), {
  fwd: (x) => ({ out: x.mul(2), residuals: null }),
  bwd: (_, ct) => [ct.mul(100)],
});

eachBackend("a function has the gradient that it is given", async () => {
  const x = tensor([1, -2]);
  using compiled = jit(grad((x: Tensor) => marked(x).square().sum()));
  for (const slope of [compiled(x), compiled(x)]) {
    // 2 · 2x · 100
    assertEquals(await slope.toArray(), [400, -800]);
  }
  assertEquals(await marked(x).toArray(), [2, -4]);
});

Deno.test("a custom gradient is differentiated to the second order", () =>
  checkGrads((x) => softplus(x).mul(x), [[0.5, -1, 2]], { order: 2 }));

inFloat64(
  "a custom gradient stands in tangents, batches, loops and other ones",
  async () => {
    const x = tensor([[0.5, -1], [2, 0.1]]);
    const { out, tangent } = jvp(softplus, [x], [x]);
    await assertClose(out, x.softplus());
    await assertClose(tangent, x.mul(x.sigmoid()));
    const of = (f: (x: Tensor) => Tensor) => {
      const g = (x: Tensor) => f(f(x)).sum();
      return [
        vmap(grad(g))(x),
        grad((x: Tensor) => vmap(g)(x).square().sum())(x),
        grad((x: Tensor) => vmap(grad(g))(x).square().sum())(x),
        grad((x: Tensor) =>
          scan((x: Tensor) => ({ carry: f(x), y: null }), x, null, {
            length: 3,
          })
            .carry.sum()
        )(x),
      ];
    };
    const expected = of((x) => x.softplus());
    for (const [i, actual] of of(softplus).entries()) {
      const exact = { rtol: 1e-12, atol: 1e-12, what: `case ${i}` };
      await assertClose(actual, expected[i]!, exact);
    }
  },
);

inFloat64(
  "arguments, results and residuals are trees, with holes where nothing flows",
  async () => {
    type P = { w: Tensor; frozen: Tensor; ids: Tensor };
    const value = ({ w, frozen }: P, x: Tensor) => ({
      y: w.mul(x).add(frozen),
      norm: [w.square().sum()],
    });
    const f = customVjp(value, {
      fwd: (p: P, x: Tensor) => ({ out: value(p, x), residuals: [p.w, x] }),
      bwd: (
        [w, x],
        { y, norm },
      ) => [{
        w: y.mul(x!).add(norm[0]!.mul(w!)),
        frozen: null as never,
        ids: null as never,
      }, null],
    });
    const p = {
      w: tensor([1, 2]),
      frozen: tensor([5, 5]),
      ids: tensor([1], { dtype: "i32" }),
    };
    const x = tensor([3, 4]);
    const slopes = grad(
      ({ w, frozen, x }: Record<"w" | "frozen" | "x", Tensor>) => {
        const { y, norm } = f({ ...p, w, frozen }, x);
        return y.sum().add(norm[0]!);
      },
    )({ w: p.w, frozen: p.frozen, x });
    assertEquals(await slopes.w.toArray(), [4, 6]);
    assertEquals(await slopes.frozen.toArray(), [0, 0]);
    assertEquals(await slopes.x.toArray(), [0, 0]);
  },
);

inFloat64(
  "what a function closes over is constant to its gradient",
  async () => {
    const slope = grad((x: Tensor) => {
      const f = customVjp((y: Tensor) => x.mul(y), {
        fwd: (y) => ({ out: x.mul(y), residuals: null }),
        bwd: (_, ct) => [ct.mul(x)],
      });
      return f(x);
    });
    assertEquals(await slope(tensor(3)).item(), 3);
  },
);

inFloat64("the value and what the pullback needs are computed once", () => {
  using f = jit((x: Tensor, y: Tensor) =>
    grad((x: Tensor) => {
      const product = customVjp((x: Tensor) => x.matmul(y).sin(), {
        fwd: (x) => ({ out: x.matmul(y).sin(), residuals: x.matmul(y) }),
        bwd: (z, ct) => [ct.mul(z.cos()).matmul(y)],
      });
      return product(x).square().sum();
    })(x)
  );
  const { kernels } = f.program(f32(2, 2), f32(2, 2));
  const products = kernels.filter(({ kind }) => kind === "matmul");
  assertEquals(products.length, 2);
});

/** A function of two arguments with these cotangents. */
const giving = (flowing: (Tensor | { w: Tensor } | null)[]) => () => {
  const f = customVjp((p: { w: Tensor }, x: Tensor) => p.w.mul(x), {
    fwd: ({ w }, x) => ({ out: w.mul(x), residuals: null }),
    bwd: () => flowing,
  });
  return grad((w: Tensor) => f({ w }, f32(2)).sum())(f32(2));
};

throws("bwd gives a cotangent for each argument", TreeError, [
  [
    giving([{ w: f32(2) }]),
    "Cannot take 1 cotangents from bwd: one for each of 2 arguments is expected",
  ],
  [
    giving([{ w: f32(2) }, null, null]),
    "Cannot take 3 cotangents from bwd: one for each of 2 arguments is expected",
  ],
  [
    giving([f32(2), null]),
    "Cannot take a cotangent from bwd at 0: no argument has that leaf",
  ],
]);

throws("cotangents have the types of the arguments", DTypeError, [
  [
    giving([{ w: f32(3) }, null]),
    "Cannot take f32[3] from bwd as cotangent of argument 0.w: it must be f32[2]",
  ],
  [
    giving([{ w: f32(2) }, i32(2)]),
    "Cannot take i32[2] from bwd as cotangent of argument 1: it must be f32[2]",
  ],
]);

inFloat64("the cotangent of a result that nobody uses is zero", async () => {
  const both = (x: Tensor) => ({ a: x.mul(2), b: x.mul(3) });
  const f = customVjp(both, {
    fwd: (x: Tensor) => ({ out: both(x), residuals: null }),
    bwd: (_, { a, b }) => [a.mul(2).add(b.mul(3))],
  });
  const slope = grad((x: Tensor) => f(x).a.sum());
  assertEquals(await slope(tensor([1, 2])).toArray(), [2, 2]);
});
