/**
 * Tests of pullbacks and forward mode.
 *
 * @module
 */

import { assertEquals, assertThrows } from "@std/assert";
import {
  DTypeError,
  einsum,
  grad,
  hvp,
  jit,
  jvp,
  type Tensor,
  tensor,
  TreeError,
  vjp,
} from "cotan";
import { eachBackend, inFloat64 } from "../support/backends.ts";
import { assertClose } from "../support/allclose.ts";

const f = (x: Tensor, y: Tensor): Tensor =>
  x.matmul(y).tanh().add(x.sum({ axis: 1, keepDims: true }).sin());

/** Bounds in float64. */
const exact = { rtol: 1e-12, atol: 1e-12 };

function matrices(): { x: Tensor; y: Tensor; dx: Tensor; dy: Tensor } {
  return {
    x: tensor([[0.5, -1], [2, 0.25]]),
    y: tensor([[1, 0.5], [-0.5, 2]]),
    dx: tensor([[1, 2], [-1, 0.5]]),
    dy: tensor([[0.3, -1], [1, 1]]),
  };
}

eachBackend("a tangent and a cotangent have one inner product", async () => {
  const { x, y, dx, dy } = matrices();
  const ct = tensor([[1, -2], [0.5, 3]]);
  const { tangent } = jvp(f, [x, y], [dx, dy]);
  const [cx, cy] = vjp(f, x, y).pullback(ct);
  const back = cx!.mul(dx).sum().add(cy!.mul(dy).sum());
  await assertClose(tangent.mul(ct).sum(), back);
});

inFloat64("a tangent is the limit of differences", async () => {
  const { x, y, dx, dy } = matrices();
  const { out, tangent } = jvp(f, [x, y], [dx, dy]);
  const at = (h: number) => f(x.add(dx.mul(h)), y.add(dy.mul(h)));
  const difference = at(1e-5).sub(at(-1e-5)).div(2e-5);
  await assertClose(tangent, difference, { rtol: 1e-8 });
  assertEquals(await out.data(), await f(x, y).data());
});

inFloat64("hvp is the gradient of the slope along the tangent", async () => {
  const { x, dx } = matrices();
  const loss = (x: Tensor) => x.mul(x).mul(x).exp().sum();
  const [product] = hvp(loss, [x], [dx]);
  const other = grad((x: Tensor) => grad(loss)(x).mul(dx).sum())(x);
  await assertClose(product!, other, exact);
});

inFloat64("jvp under jit leaves no input of its own", async () => {
  const { x, dx } = matrices();
  using slope = jit((x: Tensor, dx: Tensor) =>
    jvp((x) => x.square().sum(), [x], [dx]).tangent
  );
  await assertClose(slope(x, dx), x.mul(dx).mul(2).sum(), exact);
});

inFloat64("a tangent must have the type of its primal", () => {
  assertThrows(
    () => jvp((x) => x.exp(), [tensor([1, 2])], [tensor([1])]),
    DTypeError,
    "Cannot take f32[1] as tangent at 0: it must be f32[2]",
  );
});

inFloat64("a primal that is closed over is a constant", async () => {
  const { x, dx } = matrices();
  const g = (y: Tensor) => y.mul(x);
  await assertClose(jvp(g, [x], [dx]).tangent, x.mul(dx), exact);
  await assertClose(vjp(g, x).pullback(dx)[0]!, x.mul(dx), exact);
});

inFloat64("there is one tangent for each primal", () => {
  const x = tensor([1, 2]);
  for (const count of [0, 2]) {
    assertThrows(
      () =>
        jvp(
          (x: Tensor) => x.exp(),
          [x],
          new Array<Tensor>(count).fill(x) as [Tensor],
        ),
      TreeError,
      `Cannot take a tangent of ${count} leaves: 1 are expected`,
    );
  }
});

inFloat64("einsum differentiates", async () => {
  const { x, y } = matrices();
  const g = grad((x: Tensor) => einsum("ij,kj->", x, y))(x);
  const expected = y.sum({ axis: 0, keepDims: true }).expand([2, 2]);
  await assertClose(g, expected, exact);
});
