/**
 * Reverse mode: known gradients, ties and kinks, nesting, and what is not visited.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  concat,
  grad,
  jit,
  stopGradient,
  type Tensor,
  tensor,
  valueAndGrad,
  valueAndGradAux,
  where,
} from "cotan";
import { checkGrads } from "cotan/testing";
import { assertClose } from "../support/allclose.ts";
import { inFloat64 } from "../support/backends.ts";
import { build, programs } from "../support/graphs.ts";
import { check } from "../support/runs.ts";

inFloat64(
  "the gradient is a tree like the first argument, and only of it",
  async () => {
    const f = (
      p: { w: Tensor; b: readonly [Tensor, null] },
      x: Tensor,
    ): Tensor => x.mul(p.w).add(p.b[0]).sum();
    const p = { w: tensor([1, 2]), b: [tensor(3), null] as const };
    const { value, grads } = valueAndGrad(f)(p, tensor([5, 7]));
    assertEquals(await value.item(), 1 * 5 + 2 * 7 + 6);
    assertEquals(await grads.w.toArray(), [5, 7]);
    assertEquals(await grads.b[0].item(), 2);
    assertEquals(grads.b[1], null);
  },
);

inFloat64(
  "a parameter that the loss does not use has a gradient of zeros",
  async () => {
    const { a, b } = grad((p: { a: Tensor; b: Tensor }) => p.a.sum())({
      a: tensor([1, 2]),
      b: tensor([[3]]),
    });
    assertEquals(await a.toArray(), [1, 1]);
    assertEquals(await b.toArray(), [[0]]);
  },
);

inFloat64("what is computed beside the loss comes out with it", async () => {
  const f = valueAndGradAux((x: Tensor) => ({
    loss: x.square().sum(),
    aux: { twice: x.mul(2), none: null },
  }));
  const { value, aux, grads } = f(tensor([3]));
  assertEquals(
    [await value.item(), await aux.twice.item(), await grads.item()],
    [9, 6, 6],
  );
  assertEquals(aux.none, null);
});

inFloat64(
  "a nested gradient does not mistake a closed-over x for its own",
  async () => {
    // d/dx [x · d/dy (x + y)] = 1: perturbation confusion would give 2 (Siskind and Pearlmutter 2005).
    const slope = grad((x: Tensor) =>
      x.mul(grad((y: Tensor) => x.add(y))(tensor(1)))
    );
    assertEquals(await slope(tensor(1)).item(), 1);
    // The same x given to both: the inner one differentiates by its argument alone, x · y to x.
    const inner = (x: Tensor): Tensor => grad((y: Tensor) => x.mul(y))(x);
    assertEquals(await inner(tensor(3)).item(), 3);
    assertEquals(await grad(inner)(tensor(3)).item(), 1);
    // A third order, closing over every level: d/dx x³ · d²/dy² (x y³) at y = x is 6x · 1 more.
    const third = grad((x: Tensor) =>
      grad((y: Tensor) => grad((z: Tensor) => x.mul(y).mul(z))(x))(x)
    );
    assertEquals(await third(tensor(5)).item(), 1);
  },
);

inFloat64(
  "a concrete tensor that is closed over is a constant, also when it is the argument",
  async () => {
    const x = tensor(2);
    assertEquals(await grad((y: Tensor) => y.mul(x))(x).item(), 2);
    assertEquals(
      await jit(() => grad((y: Tensor) => y.mul(x).mul(x))(x))().item(),
      4,
    );
  },
);

inFloat64("the same tensor in two places has a gradient in each", async () => {
  const x = tensor(3);
  const [a, b] = grad((p: readonly Tensor[]) => p[0]!.mul(p[1]!.square()))([
    x,
    x,
  ]);
  assertEquals([await a!.item(), await b!.item()], [9, 18]);
});

inFloat64(
  "ties share the gradient equally, and kinks have the slope that is documented",
  async () => {
    const cases: [(x: Tensor) => Tensor, number[], number[]][] = [
      [(x) => x.max(), [2, 2, 1], [0.5, 0.5, 0]],
      [(x) => x.min(), [1, 1, 1, 2], [1 / 3, 1 / 3, 1 / 3, 0]],
      [(x) => x.maximum(1), [1, 2, 0], [0.5, 1, 0]],
      [(x) => x.minimum(1), [1, 2, 0], [0.5, 0, 1]],
      [(x) => x.relu(), [0, -1, 2], [0, 0, 1]],
      [(x) => x.abs(), [0, -1, 2], [0, -1, 1]],
      [(x) => x.sigmoid(), [0], [0.25]],
      [(x) => x.silu(), [0], [0.5]],
      [(x) => x.softplus(), [0], [0.5]],
      [(x) => x.gelu(), [0], [0.5]],
      [(x) => x.elu(), [0], [1]],
      [(x) => x.pow(2), [0, -3], [0, -6]],
      [(x) => x.pow(0), [0, -3], [0, 0]],
      [(x) => x.floor(), [0.5], [0]],
    ];
    for (const [f, at, want] of cases) {
      const slope = grad((x: Tensor) => f(x).sum())(tensor(at));
      await assertClose(slope, want, { rtol: 1e-14, atol: 0, what: String(f) });
    }
  },
);

inFloat64("gradients stay finite where the function does", async () => {
  const huge = [-1e30, -1000, -50, 50, 1000, 1e30];
  for (
    const f of [
      "sigmoid",
      "silu",
      "softplus",
      "logSigmoid",
      "tanh",
      "gelu",
      "elu",
      "erf",
    ] as const
  ) {
    const { value, grads } = valueAndGrad((x: Tensor) =>
      x[f]().mul(1e-3).sum()
    )(tensor(huge));
    assertEquals([f, Number.isFinite(await value.item())], [f, true]);
    assertEquals([f, (await grads.data()).every(Number.isFinite)], [f, true]);
  }
  for (const f of ["softmax", "logSoftmax"] as const) {
    const slope = grad((x: Tensor) => x[f]().slice([[0, 1]]).sum())(
      tensor([1000, -1000, 999]),
    );
    assertEquals((await slope.data()).every(Number.isFinite), true);
  }
});

inFloat64("where keeps what is not taken out of the gradient", async () => {
  const f = (x: Tensor): Tensor => where(x.gt(0), x.mul(3), x.mul(5)).sum();
  assertEquals(await grad(f)(tensor([1, -1])).toArray(), [3, 5]);
  const stopped = grad((x: Tensor) => x.mul(stopGradient(x)).sum());
  assertEquals(await stopped(tensor([4])).toArray(), [4]);
});

inFloat64(
  "what does not depend on the parameters is not differentiated",
  () => {
    const size = (f: (w: Tensor, x: Tensor) => Tensor): number => {
      using step = jit((w: Tensor, x: Tensor) =>
        grad((w: Tensor) => f(w, x))(w)
      );
      return step.program(tensor([[1]]), tensor([[1]])).kernels.filter((
        { kind },
      ) => kind === "matmul").length;
    };
    // Forward x·w0·w1 and the product for w alone; nothing for x.
    assertEquals(size((w, x) => x.matmul(w).sum()), 1);
  },
);

Deno.test("gradients of random programs are those of finite differences", async () => {
  const smooth = programs.filter(({ steps }) =>
    steps.every(({ name }) =>
      ![
        "integers",
        "logic",
        "stopped",
        "where",
        "maximum",
        "max",
        "gather",
        "scatter",
      ].includes(name)
    )
  );
  const holds = fc.asyncProperty(smooth, async (program) => {
    await checkGrads(
      (...xs) => {
        const results = build(program, xs as Tensor[]);
        // Results may be rounding alone, as the variance of equal numbers is.
        const sizes = (xs as Tensor[]).map((x) => x.mul(1e-6));
        return concat([...results, ...sizes].map((x) => x.reshape([-1])));
      },
      program.inputs.map(({ shape, data }) => tensor([...data], { shape })),
    );
  });
  await check(holds, 40);
});
