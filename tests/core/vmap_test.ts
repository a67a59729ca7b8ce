/**
 * Tests of batching: it is a loop over examples, alone and together with the other transformations.
 *
 * That it is one for each primitive is tested with the other properties of primitives.
 *
 * @module
 */

import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  concat,
  einsum,
  grad,
  hvp,
  jit,
  jvp,
  memory,
  ones,
  random,
  scope,
  ShapeError,
  stack,
  type Tensor,
  tensor,
  tree,
  TreeError,
  vjp,
  vmap,
  where,
  zeros,
} from "cotan";
import { checkGrads } from "cotan/testing";
import { currentRuntime } from "../../core/context.ts";
import { assertClose } from "../support/allclose.ts";
import { eachBackend, inFloat64 } from "../support/backends.ts";
import { example, loop } from "../support/batches.ts";
import { build, buildWithGradient, programs } from "../support/graphs.ts";
import { upload } from "../support/primitives.ts";
import { check } from "../support/runs.ts";
import { f32, i32, throws } from "../support/throws.ts";
import { fill } from "../support/values.ts";

/** Bounds in float64. */
const exact = { rtol: 1e-12, atol: 1e-12 };

/** Numbers in [-1, 1). */
function noise(shape: number[], seed: number): Tensor {
  return random.uniform(random.key(seed), shape, { min: -1, max: 1 });
}

async function assertTreesClose(
  actual: tree.Tree,
  expected: tree.Tree,
  options = {},
): Promise<void> {
  const want = tree.leaves(expected);
  const got = tree.leaves(actual);
  assertEquals(got.map(({ path }) => path), want.map(({ path }) => path));
  for (const [i, { leaf }] of got.entries()) {
    await assertClose(leaf, want[i]!.leaf, options);
  }
}

/** A function of the kind that is batched in earnest, w[4, 3] and x[4]. */
function layer(w: Tensor, x: Tensor): Tensor {
  return x.matmul(w).tanh().softmax();
}

const loss = (w: Tensor, x: Tensor): Tensor => layer(w, x).square().sum();

eachBackend(
  "vmap of any program, and of its gradient, is a loop",
  async (backend, t) => {
    const size = 3;
    for (const f of [build, buildWithGradient]) {
      const holds = fc.asyncProperty(programs, fc.nat(15), async (p, mask) => {
        const inAxes = p.inputs.map((_, i) => mask >> i & 1 ? 0 : null);
        inAxes[0] = 0;
        const inputs = p.inputs.map(({ shape }, i) =>
          upload(fill(inAxes[i] === 0 ? [size, ...shape] : shape, "f32", i))
        );
        const g = (...xs: Tensor[]): Tensor[] => f(p, xs);
        using batched = jit(vmap(g, { inAxes }));
        const actual = batched(...inputs);
        const expected = scope(() => loop(g, size, inAxes)(...inputs));
        const isExact = currentRuntime().backend.precision === "f64";
        const bounds = { rtol: 1e-4, atol: 1e-5 };
        await assertTreesClose(actual, expected, isExact ? exact : bounds);
        for (const x of [...inputs, ...actual, ...expected]) x.dispose();
      });
      const runs = backend === "webgpu" ? 3 : 30;
      await t.step(f.name, () => check(holds, runs));
    }
  },
);

eachBackend(
  "products, attention, indexing and joins of a batch are loops",
  async (_, t) => {
    const [w, v, x, q] = [
      noise([4, 3], 1),
      noise([2, 4, 3], 2),
      noise([2, 4], 3),
      noise([2, 5, 4], 4),
    ];
    const ids = tensor([[0, 3, 3], [1, 1, 2]], { dtype: "i32" });
    const scores = (q: Tensor): Tensor =>
      where(ones([5, 5]).tril().gt(0), q.matmul(q.transpose()), -1e30);
    const cases: Record<
      string,
      [(...xs: Tensor[]) => Tensor, Tensor[], (number | null)[]]
    > = {
      "a shared weight": [(w, x) => layer(w, x), [w, x], [null, 0]],
      "a weight each": [(w, x) => layer(w, x), [v, x], [0, 0]],
      "a shared operand": [
        (w, x) => layer(w, x),
        [v, example(x, 0, 0)],
        [0, null],
      ],
      "attention": [(q) => scores(q).softmax().matmul(q), [q], [0]],
      "attention's gradient": [
        (q) => grad((q) => scores(q).softmax().matmul(q).sin().sum())(q),
        [q],
        [0],
      ],
      "a lookup in a shared table": [(t, i) => t.take(i), [w, ids], [null, 0]],
      "a lookup in a table each": [(t, i) => t.take(i), [v, ids], [0, 0]],
      "the gradient of a lookup": [
        (t, i) => grad((t: Tensor) => t.take(i).square().sum())(t),
        [w, ids],
        [null, 0],
      ],
      "einsum": [(w, x) => einsum("ij,i->ji", w, x), [v, x], [0, 0]],
      "joins": [
        (w, x) => concat([w, x.reshape([4, 1])], { axis: 1 }).flip([1]),
        [w, x],
        [null, 0],
      ],
      "argmax": [(x) => x.argmax(), [x], [1]],
    };
    for (const [name, [f, args, inAxes]] of Object.entries(cases)) {
      await t.step(name, async () => {
        const at = inAxes.findIndex((axis) => axis !== null);
        const size = args[at]!.shape[inAxes[at]!]!;
        const expected = loop(f, size, inAxes)(...args);
        await assertClose(vmap(f, { inAxes })(...args), expected);
      });
    }
  },
);

eachBackend(
  "gradients of each example are those of a loop",
  async () => {
    const params = { w: noise([4, 3], 1), bias: [noise([3], 2), null] };
    type Params = typeof params;
    const of = (p: Params, batch: { x: Tensor; y: Tensor }): Tensor =>
      batch.x.matmul(p.w).add(p.bias[0]!).sub(batch.y).square().sum();
    const batch = { x: noise([5, 4], 3), y: noise([5, 3], 4) };
    const each = vmap(grad(of), { inAxes: [null, 0] })(params, batch);
    assertEquals(each.w.shape, [5, 4, 3]);
    await assertTreesClose(each, loop(grad(of), 5, [null, 0])(params, batch));
  },
);

inFloat64("vmap of vmap is a loop of loops", async () => {
  const x = noise([2, 3, 4], 1), y = noise([5, 4], 2);
  const f = (x: Tensor, y: Tensor): Tensor => x.mul(y).sin().sum();
  // [2, 3, 4] and [5, 4] to [2, 5, 3]
  const nested = vmap(
    (x: Tensor, y: Tensor) => vmap((y: Tensor) => vmap((x) => f(x, y))(x))(y),
    { inAxes: [0, null] },
  )(x, y);
  const expected = x.unsqueeze(1).mul(y.reshape([1, 5, 1, 4])).sin()
    .sum({ axis: -1 });
  await assertClose(nested, expected, exact);
  // The inner function closes over what the outer one maps.
  const gram = vmap((a) => vmap((b) => a.dot(b))(y))(y);
  await assertClose(gram, y.matmul(y.transpose()), exact);
});

inFloat64("vmap stands inside and outside of each transformation", async () => {
  const w = noise([4, 3], 1), x = noise([5, 4], 2), dw = noise([4, 3], 3);
  const total = (w: Tensor): Tensor =>
    vmap((x) => loss(w, x))(x).mul(tensor([1, 2, 3, 4, 5])).sum();
  const looped = (w: Tensor): Tensor =>
    stack([0, 1, 2, 3, 4].map((n) => loss(w, example(x, 0, n)).mul(n + 1)))
      .sum();
  await assertClose(grad(total)(w), grad(looped)(w), exact);
  await assertTreesClose(jvp(total, [w], [dw]), jvp(looped, [w], [dw]), exact);
  await assertTreesClose(hvp(total, [w], [dw]), hvp(looped, [w], [dw]), exact);

  const inAxes = [null, 0];
  const inside: ((w: Tensor, x: Tensor) => tree.Tree)[] = [
    jit(layer),
    (w, x) => grad((x: Tensor) => loss(w, x))(x),
    (w, x) => grad((w: Tensor) => grad(loss)(w, x).mul(dw).sum())(w),
    (w, x) => jvp((w: Tensor) => layer(w, x), [w], [dw]),
    (w, x) => jvp((x: Tensor) => layer(w, x), [x], [x.sin()]),
    (w, x) => hvp((w: Tensor) => loss(w, x), [w], [dw]),
    (w, x) => vjp(layer, w, x).pullback(tensor([1, 2, 3])) as Tensor[],
  ];
  for (const f of inside) {
    const expected = loop(f, 5, inAxes)(w, x);
    await assertTreesClose(vmap(f, { inAxes })(w, x), expected, exact);
    using jitted = jit(vmap(f, { inAxes }));
    await assertTreesClose(jitted(w, x), expected, exact);
  }
});

Deno.test("derivatives through vmap are those of finite differences", async () => {
  const w = [[0.5, -1, 0.25], [1, 0.1, -0.3]], x = [[1, 2], [-0.5, 0.75]];
  await checkGrads(
    (w, x) => vmap(layer, { inAxes: [null, 1], outAxis: 1 })(w, x),
    [w, x],
    { order: 2 },
  );
  await checkGrads(
    (w, x) => vmap(grad(loss), { inAxes: [null, 0] })(w, x),
    [w, x],
    { order: 2 },
  );
});

eachBackend(
  "random numbers from a batch of keys are those of a loop",
  async () => {
    const keys = random.bits(random.key(3), [4, 2]);
    const draws: ((key: Tensor, i: Tensor) => Tensor)[] = [
      (key) => random.bits(key, [2, 3]),
      (key) => random.bits(key, []),
      (key) => random.uniform(key, [5]),
      (key) => random.uniform(random.split(key, 3)[1]!, [3]),
      (key, i) => random.bits(random.foldIn(key, i), [3]),
      (key) => random.randint(key, [7], { high: 10 }),
      (key, i) => random.bits(key, [3], { stream: i }),
    ];
    const counts = tensor([1, 2, 3, 4], { dtype: "u32" });
    for (const draw of draws) {
      for (const inAxes of [[0, 0], [0, null], [null, 0]]) {
        const args = [
          inAxes[0] === 0 ? keys : random.key(5),
          inAxes[1] === 0 ? counts : counts.slice([[1, 2]]).reshape([]),
        ] as const;
        const expected = await loop(draw, 4, inAxes)(...args).data();
        const batched = vmap(draw, { inAxes });
        assertEquals(await batched(...args).data(), expected);
        using jitted = jit(batched);
        assertEquals(await jitted(...args).data(), expected);
      }
    }
  },
);

inFloat64("axes count from the back where negative", async () => {
  const x = noise([2, 3, 4], 1);
  const f = vmap((x) => x.sum({ axis: 0 }), { inAxes: [-2], outAxis: -1 });
  await assertClose(f(x), x.sum({ axis: 0 }).transpose(), exact);
});

inFloat64("holes and what examples share stay as they are", async () => {
  const shared = tensor([1, 2]);
  const out = vmap((x: { a: Tensor; b: null }) => ({
    hole: null,
    same: x.a,
    shared,
    one: ones([]),
  }))({ a: tensor([5, 6, 7]), b: null });
  assertEquals(out.hole, null);
  assertEquals(await out.same.toArray(), [5, 6, 7]);
  assertEquals(await out.shared.toArray(), [[1, 2], [1, 2], [1, 2]]);
  assertEquals(await out.one.toArray(), [1, 1, 1]);
});

inFloat64("what does not depend on an example is computed once", () => {
  const x = noise([8, 8], 1);
  using f = jit((w: Tensor, x: Tensor) =>
    vmap((x) => x.mul(w.matmul(w).sum()))(x)
  );
  const { kernels } = f.program(x, x);
  const products = kernels.filter(({ kind }) => kind === "matmul");
  assertEquals(products.map(({ shape }) => shape), [[8, 8]]);
});

eachBackend("vmap leaves nothing behind but its results", () => {
  const x = noise([3, 4], 1), w = noise([4, 3], 2);
  const before = memory().tensors;
  using out = vmap(grad(loss), { inAxes: [null, 0] })(w, x);
  assertEquals(out.shape, [3, 4, 3]);
  assertEquals(memory().tensors, before + 1);
});

inFloat64("an example that leaks from its function cannot be used", () => {
  const leaks = (x: Tensor): Tensor => {
    let leaked: Tensor | undefined;
    vmap((x) => (leaked = x.mul(2)))(x);
    return leaked!.add(1);
  };
  const text =
    "Cannot use f32[3] here: it belongs to a function whose tracing has ended; return it from that function";
  for (const f of [leaks, jit(leaks), grad(leaks)]) {
    assertEquals(assertThrows(() => f(f32(2, 3)), TypeError).message, text);
  }
});

inFloat64(
  "a function that throws while it is batched leaves no trace open",
  async () => {
    assertThrows(
      () => vmap((x) => x.matmul(ones([7])))(ones([2, 3])),
      ShapeError,
    );
    assertEquals(await ones([2]).add(1).toArray(), [2, 2]);
  },
);

throws("axes that do not fit are named with their arguments", ShapeError, [
  [
    () => vmap((x, y) => x.add(y))(f32(2, 3), f32(4, 3)),
    "Cannot vmap over axis 0 of argument 0, f32[2, 3], and axis 0 of argument 1, f32[4, 3]: sizes 2 and 4 differ",
  ],
  [
    () =>
      vmap((x: { a: Tensor }, y: Tensor[]) => x.a.add(y[1]!), {
        inAxes: [-1, 0],
      })({ a: f32(3, 2) }, [f32(2), i32(5, 3)]),
    "Cannot vmap over axis 1 of argument 0.a, f32[3, 2], and axis 0 of argument 1.1, i32[5, 3]: sizes 2 and 5 differ",
  ],
  [
    () => vmap((x) => x, { inAxes: [2] })(f32(2, 3)),
    "Cannot vmap over argument 0, f32[2, 3]: axis 2 is out of range, axes go from -2 to 1",
  ],
  [
    () => vmap((x: Tensor[]) => x[0]!)([f32()]),
    "Cannot vmap over argument 0.0, f32[]: axis 0 is out of range, it has no axes",
  ],
  [
    () => vmap((x) => x.sum(), { outAxis: 1 })(f32(2, 3)),
    "Cannot vmap to f32[2]: axis 1 is out of range, axes go from -1 to 0",
  ],
]);

throws("arguments and results that cannot be batched are named", TreeError, [
  [
    () => vmap((x) => x, { inAxes: [0, 0] })(f32(2)),
    "Cannot vmap over 1 arguments: inAxes has 2 entries, one for each argument is expected",
  ],
  [
    () => vmap((x) => x, { inAxes: [null] })(f32(2)),
    "Cannot vmap over no tensor: inAxes must give an axis to an argument that holds one",
  ],
  [
    () => vmap(() => f32(2))(),
    "Cannot vmap over no tensor: inAxes must give an axis to an argument that holds one",
  ],
  [
    () => vmap((x: tree.Tree) => x)({ a: 3 } as unknown as tree.Tree),
    "Cannot use the number 3 at 0.a in a tree: leaves are tensors, nodes are plain records and arrays, null is a hole",
  ],
  [
    () => vmap((x) => ({ a: [x, 3] }) as unknown as Tensor)(f32(2)),
    "Cannot use the number 3 at a.1 in what a function returns: leaves are tensors, nodes are plain records and arrays, null is a hole",
  ],
]);

throws("an example cannot be read", TypeError, [
  [
    () => vmap((x) => (x.mul(2).data(), x))(zeros([2, 3])),
    "Cannot read f32[3] while a function is traced: it has no value yet; return it and read the result, or branch with where()",
  ],
]);
