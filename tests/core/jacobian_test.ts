/**
 * Tests of whole matrices of derivatives.
 *
 * @module
 */

import {
  DTypeError,
  grad,
  hessian,
  hvp,
  jacobian,
  jit,
  random,
  ShapeError,
  stack,
  type Tensor,
  tensor,
  type tree,
  vmap,
} from "cotan";
import { checkGrads } from "cotan/testing";
import { assertClose } from "../support/allclose.ts";
import { eachBackend, inFloat64 } from "../support/backends.ts";
import { f32, i32, throws } from "../support/throws.ts";

const exact = { rtol: 1e-12, atol: 1e-12 };

/** Numbers in [-1, 1). */
function noise(shape: number[], seed: number): Tensor {
  return random.uniform(random.key(seed), shape, { min: -1, max: 1 });
}

eachBackend("the jacobian of softmax is diag(y) - y yᵀ", async () => {
  const x = tensor([0.5, -1, 2, 0]);
  const y = x.softmax();
  const outer = y.unsqueeze(1).mul(y);
  const diagonal = stack(
    [0, 1, 2, 3].map((i) =>
      tensor([0, 1, 2, 3].map((j) => i === j ? 1 : 0)).mul(y)
    ),
  );
  const J = jacobian((x) => x.softmax());
  await assertClose(J(x), diagonal.sub(outer));
  using jitted = jit(J);
  await assertClose(jitted(x), diagonal.sub(outer));
});

inFloat64("the jacobian of a linear map is its matrix", async () => {
  const w = noise([3, 4], 1), x = noise([4], 2);
  await assertClose(jacobian((x) => w.matmul(x))(x), w, exact);
});

inFloat64(
  "a jacobian is the limit of differences in each direction",
  async () => {
    const x = noise([2, 3], 1);
    const f = (x: Tensor): Tensor => x.matmul(x.transpose()).tanh().exp();
    const J = jacobian(f)(x);
    const h = 1e-5;
    const columns = Array.from({ length: 6 }, (_, i) => {
      const step = tensor([0, 1, 2, 3, 4, 5].map((j) => i === j ? h : 0))
        .reshape([2, 3]);
      return f(x.add(step)).sub(f(x.sub(step))).div(2 * h);
    });
    const expected = stack(columns, { axis: -1 }).reshape([2, 2, 2, 3]);
    await assertClose(J, expected, { rtol: 1e-8, atol: 1e-8 });
  },
);

inFloat64("shapes of no axes and of no elements have jacobians", async () => {
  await assertClose(jacobian((x) => x.pow(3))(tensor(2)), tensor(12), exact);
  const none = jacobian((x) => x.mul(2))(f32(0, 2));
  await assertClose(none, f32(0, 2, 0, 2));
  await assertClose(jacobian((x) => x.sum())(f32(0)), f32(0));
  // What does not depend on x has none but zeros.
  await assertClose(jacobian(() => tensor([1, 2]))(f32(3)), f32(2, 3));
});

inFloat64(
  "the hessian is symmetric, and times a vector it is hvp",
  async () => {
    const x = noise([2, 3], 1), v = noise([2, 3], 2);
    const f = (x: Tensor): Tensor =>
      x.matmul(x.transpose()).sin().sum().mul(x.exp().sum());
    const H = hessian(f)(x);
    const matrix = H.reshape([6, 6]);
    await assertClose(matrix, matrix.transpose(), exact);
    const [product] = hvp(f, [x], [v]);
    await assertClose(matrix.matmul(v.reshape([6])).reshape([2, 3]), product!, {
      rtol: 1e-10,
      atol: 1e-10,
    });
    await assertClose(H, jacobian(grad(f))(x), exact);
  },
);

eachBackend(
  "the hessian of a quadratic form is the sum of its matrix and the transposed",
  async () => {
    const a = noise([4, 4], 1), x = noise([4], 2);
    const H = hessian((x) => x.dot(a.matmul(x)))(x);
    await assertClose(H, a.add(a.transpose()));
  },
);

inFloat64("a jacobian can be batched", async () => {
  const x = noise([5, 3], 1);
  const f = (x: Tensor): Tensor => x.softmax().mul(x.sum());
  const each = vmap(jacobian(f))(x);
  const rows = [0, 1, 2, 3, 4].map((n) => x.slice([[n, n + 1]]).reshape([3]));
  await assertClose(each, stack(rows.map(jacobian(f))), exact);
  const curvatures = vmap(hessian((x) => f(x).square().sum()))(x);
  const expected = rows.map(hessian((x) => f(x).square().sum()));
  await assertClose(curvatures, stack(expected), exact);
});

Deno.test("jacobians have the derivatives of finite differences", () =>
  checkGrads(
    (x) => jacobian((x) => x.softmax().mul(x))(x),
    [[0.5, -1, 2]],
    { order: 2 },
  ));

throws("a jacobian of or by integers, or of a tree, is refused", DTypeError, [
  [
    () => jacobian((x) => x)(i32(2)),
    "Cannot differentiate by i32[2]: only f32 has a gradient; pass it as another argument",
  ],
  [
    () => jacobian((x) => x.lt(0))(f32(2)),
    "Cannot differentiate a function that returns bool[2]: it must be one f32 tensor",
  ],
  [
    () => jacobian((x) => [x] as tree.Tree as Tensor)(f32(2)),
    "Cannot differentiate a function that returns a tree: it must be one f32 tensor",
  ],
  [
    () => hessian((x) => x.cast("f32").sum())(i32(2)),
    "Cannot differentiate by i32[2]: only f32 has a gradient; pass it as another argument",
  ],
]);

throws("a hessian is of a scalar", ShapeError, [
  [
    () => hessian((x) => x)(f32(2)),
    "Cannot differentiate a function that returns f32[2]: the loss must be a scalar f32; reduce it with sum() or mean()",
  ],
]);
