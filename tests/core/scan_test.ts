/**
 * Tests of loops against the same steps unrolled.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import {
  checkpoint,
  DTypeError,
  grad,
  hvp,
  jit,
  jvp,
  random,
  scan,
  ShapeError,
  stack,
  type Tensor,
  tensor,
  tree,
  TreeError,
  valueAndGrad,
  vmap,
  zeros,
} from "cotan";
import { checkGrads } from "cotan/testing";
import { assertClose } from "../support/allclose.ts";
import { eachBackend, inFloat64 } from "../support/backends.ts";
import { loop } from "../support/batches.ts";
import { type Rnn, rnnLoss, rnnOf, unrolled } from "../support/loops.ts";
import { bool, f32, throws } from "../support/throws.ts";

/** Bounds in float64. */
const exact = { rtol: 1e-10, atol: 1e-10 };

eachBackend(
  "a recurrent network and its gradient are those of unrolled steps",
  async () => {
    const xs = random.normal(random.key(1), [7, 2, 3]);
    const p = rnnOf(5, 3);
    for (const reverse of [false, true]) {
      const both = valueAndGrad(rnnLoss(scan, { reverse }));
      const expected = valueAndGrad(rnnLoss(unrolled, { reverse }))(p, xs);
      using compiled = jit(both);
      for (const actual of [both(p, xs), compiled(p, xs), compiled(p, xs)]) {
        await assertClose(actual.value, expected.value, { terms: 90 });
        for (const { path, leaf } of tree.leaves(actual.grads)) {
          const like = tree.at(expected.grads, path) as Tensor;
          await assertClose(leaf, like, { terms: 90, what: path });
        }
      }
    }
  },
);

Deno.test("the gradient of a loop is that of finite differences, to the second order", async () => {
  const w = [[0.1, 0.2], [0.3, -0.5]], v = [[0.4, -0.1]], b = [0.2, 0.1];
  const xs = [[[1]], [[0.3]], [[-0.4]]];
  for (const reverse of [false, true]) {
    await checkGrads(
      (w, v, b, xs) => rnnLoss(scan, { reverse })({ w, v, b }, xs),
      [w, v, b, xs],
      { order: 2 },
    );
  }
});

inFloat64(
  "tangents go through loops, and through their gradients",
  async () => {
    const xs = random.normal(random.key(1), [4, 2, 3]);
    const p = rnnOf(5, 3);
    const along = tree.map((x) => x.sin(), p);
    const f = (p: Rnn) => rnnLoss(scan)(p, xs);
    const g = (p: Rnn) => rnnLoss(unrolled)(p, xs);
    const { tangent } = jvp(f, [p], [along]);
    await assertClose(tangent, jvp(g, [p], [along]).tangent, exact);
    using compiled = jit((p: Rnn) => hvp(f, [p], [along])[0]);
    const expected = hvp(g, [p], [along])[0];
    for (const { path, leaf } of tree.leaves(compiled(p))) {
      await assertClose(leaf, tree.at(expected, path) as Tensor, exact);
    }
  },
);

eachBackend("carries of all dtypes may change places", async () => {
  const carry = {
    a: tensor([1, 2]),
    b: tensor([3, 4]),
    i: tensor([1, 2, 3], { dtype: "i32" }),
    m: tensor([[true], [false]]),
    none: zeros([0, 2]),
    u: tensor(7, { dtype: "u32" }),
  };
  type Carry = typeof carry;
  const step = ({ a, b, i, m, none, u }: Carry, x: Tensor) => ({
    carry: { a: b, b: a, i: i.mul(2), m: m.not(), none: none.add(1), u },
    y: { sum: a.add(x), i, m, any: a.lt(b), none },
  });
  const f = (carry: Carry, xs: Tensor) => scan(step, carry, xs);
  const xs = tensor([0.5, 1, 2]);
  const expected = unrolled(step, carry, xs);
  using compiled = jit(f);
  for (const actual of [f(carry, xs), compiled(carry, xs)]) {
    const leaves = tree.leaves(actual), others = tree.leaves(expected);
    for (const [i, { path, leaf }] of leaves.entries()) {
      assertEquals(path, others[i]!.path);
      await assertClose(leaf, others[i]!.leaf);
    }
  }
});

eachBackend(
  "a loop of no steps gives the carry, and empty stacks",
  async () => {
    const f = (w: Tensor, xs: Tensor) => {
      const step = (h: Tensor, x: Tensor) => ({ carry: h.mul(x), y: h });
      const { carry, ys } = scan(step, w.square(), xs);
      return { loss: carry.sum(), ys };
    };
    const w = tensor([1, 2]), xs = zeros([0, 2]);
    using compiled = jit(f);
    for (const { loss, ys } of [f(w, xs), compiled(w, xs)]) {
      assertEquals(await loss.item(), 5);
      assertEquals(ys.shape, [0, 2]);
    }
    const slope = grad((w: Tensor) => f(w, xs).loss);
    assertEquals(await slope(w).toArray(), [2, 4]);
  },
);

eachBackend("a loop without xs counts its steps", async () => {
  const { carry, ys } = scan(
    (x: Tensor) => ({ carry: x.mul(2), y: { at: x, none: null } }),
    tensor(1),
    null,
    { length: 5 },
  );
  assertEquals(await carry.item(), 32);
  assertEquals(await ys.at.toArray(), [1, 2, 4, 8, 16]);
  assertEquals(ys.none, null);
});

eachBackend("loops nest", async () => {
  // A network whose layers are a loop, in a loop over time.
  const loss = (loop: typeof scan) => (layers: Tensor, xs: Tensor) => {
    const step = (h: Tensor, x: Tensor) => {
      const { carry, ys } = loop(
        (h: Tensor, w: Tensor) => ({ carry: h.matmul(w).sin(), y: h.sum() }),
        h.add(x),
        layers,
        { reverse: true },
      );
      return { carry, y: ys };
    };
    const { carry, ys } = loop(step, zeros([2, 3]), xs);
    return carry.sum().add(ys.square().sum());
  };
  const layers = random.normal(random.key(0), [3, 3, 3]).mul(0.5);
  const xs = random.normal(random.key(1), [4, 2, 3]).mul(0.5);
  using compiled = jit(valueAndGrad(loss(scan)));
  const actual = compiled(layers, xs);
  const expected = valueAndGrad(loss(unrolled))(layers, xs);
  await assertClose(actual.value, expected.value, { terms: 30 });
  await assertClose(actual.grads, expected.grads, { terms: 30 });
});

Deno.test("gradients of nested loops are those of finite differences, to the second order", () =>
  checkGrads(
    (w, xs) => {
      const inner = (h: Tensor, x: Tensor) =>
        scan(
          (h: Tensor) => ({ carry: h.mul(w).add(x).sin(), y: null }),
          h,
          null,
          { length: 2 },
        ).carry;
      const step = (h: Tensor, x: Tensor) => ({
        carry: inner(h, x),
        y: h.mul(x),
      });
      const { carry, ys } = scan(step, w.square(), xs);
      return ys.add(carry);
    },
    [0.3, [0.5, 0.2]],
    { order: 2 },
  ));

eachBackend(
  "gradients and checkpoints may stand in a step, and loops in a checkpoint",
  async () => {
    const f = (x: Tensor) => x.sin().mul(x).sum();
    // Descent down a gradient, differentiated by where it starts.
    const descend =
      (loop: typeof scan, wrap: typeof checkpoint) => (x: Tensor) => {
        const step = wrap((x: Tensor) => x.sub(grad(f)(x).mul(0.1)));
        const all = wrap((x: Tensor) =>
          loop((x: Tensor) => ({ carry: step(x), y: null }), x, null, {
            length: 4,
          }).carry
        );
        return f(all(x));
      };
    const x = tensor([0.3, -1, 2]);
    const same = ((f: unknown) => f) as typeof checkpoint;
    using compiled = jit(grad(descend(scan, checkpoint)));
    await assertClose(
      compiled(x),
      grad(descend(
        (step, x, xs, options) => {
          for (let i = 0; i < options!.length!; i++) x = step(x, xs).carry;
          return { carry: x, ys: null as never };
        },
        same,
      ))(x),
      { terms: 4 },
    );
  },
);

eachBackend(
  "gradients summed over micro-batches are those of the batch",
  async () => {
    const w = random.normal(random.key(0), [3, 4]);
    const x = random.normal(random.key(1), [12, 3]);
    const loss = (w: Tensor, x: Tensor) => x.matmul(w).tanh().square().sum();
    const step = (w: Tensor) => (sum: Tensor, x: Tensor) => {
      const { value, grads } = valueAndGrad(loss)(w, x);
      return { carry: sum.add(grads), y: value };
    };
    using accumulated = jit((w: Tensor, x: Tensor) =>
      scan(step(w), zeros(w.shape), x.reshape([4, 3, 3]))
    );
    const { carry, ys } = accumulated(w, x);
    const { value, grads } = valueAndGrad(loss)(w, x);
    await assertClose(carry, grads, { terms: 12 });
    await assertClose(ys.sum(), value, { terms: 48 });
  },
);

eachBackend(
  "a batch of loops is a loop over examples, and so are its gradients",
  async () => {
    const loss = (w: Tensor, xs: Tensor) => {
      const step = ({ h, n }: { h: Tensor; n: Tensor }, x: Tensor) => ({
        carry: { h: h.matmul(w).add(x).tanh(), n: n.add(1) },
        y: { h: h.mul(x), late: n.gt(1) },
      });
      const init = { h: zeros([1, 3]), n: zeros([], { dtype: "i32" }) };
      const { carry, ys } = scan(step, init, xs, { reverse: true });
      const late = ys.late.cast("f32").reshape([4, 1, 1]);
      return ys.h.mul(late).sum().add(carry.h.square().sum());
    };
    const w = random.normal(random.key(0), [3, 3]);
    const xs = random.normal(random.key(1), [2, 4, 1, 3]);
    const inAxes = [null, 0];
    type F = typeof loss;
    const of = (batched: (f: F) => F) => (w: Tensor, xs: Tensor) => [
      batched(loss)(w, xs),
      batched(grad(loss))(w, xs),
      grad((w: Tensor) => batched(loss)(w, xs).square().sum())(w),
      grad((w: Tensor) => batched(grad(loss))(w, xs).square().sum())(w),
      vmap((xs: Tensor) => batched(loss)(w, xs))(stack([xs, xs.sin()])),
    ];
    const expected = of((f) => loop(f, 2, inAxes))(w, xs);
    using compiled = jit(of((f) => vmap(f, { inAxes })));
    for (const [i, actual] of compiled(w, xs).entries()) {
      await assertClose(actual, expected[i]!, {
        terms: 100,
        what: `case ${i}`,
      });
    }
  },
);

const grown = (h: Tensor) => ({ carry: h.add(zeros([3, 2])), y: null });

throws("a step must give the carry that it takes", ShapeError, [
  [
    () => scan(grown, f32(2), null, { length: 1 }),
    "Cannot scan with carry f32[2]: the step gives f32[3, 2]",
  ],
  [
    () =>
      scan(
        ({ a }: { a: Tensor[] }) => ({ carry: { a: [a[1]!, a[0]!] }, y: null }),
        { a: [f32(2), f32(3)] },
        null,
        { length: 0 },
      ),
    "Cannot scan with carry f32[2] at a.0: the step gives f32[3]",
  ],
]);

throws("a step must give the dtypes of the carry", DTypeError, [[
  () =>
    scan(
      (c: { m: Tensor }) => ({ carry: { m: c.m.cast("f32") }, y: null }),
      {
        m: bool(2),
      },
      null,
      { length: 1 },
    ),
  "Cannot scan with carry bool[2] at m: the step gives f32[2]",
]]);

throws("a step must give the leaves of the carry", TreeError, [
  [
    () =>
      scan(
        (_: { a: Tensor | null }) => ({ carry: { a: null }, y: null }),
        { a: f32(2) },
        null,
        { length: 1 },
      ),
    "Cannot scan with carry f32[2] at a: the step gives none there",
  ],
  [
    () =>
      scan(
        (_: Record<string, Tensor>) => ({ carry: { b: f32(1) }, y: null }),
        {},
        f32(2),
      ),
    "Cannot scan with no carry at b: the step gives f32[1] there",
  ],
]);

const step = (h: Tensor) => ({ carry: h, y: null });
throws("the steps of xs must agree", ShapeError, [
  [
    () => scan(step, f32(), { a: f32(3, 2), b: [f32(4)] }),
    "Cannot scan 3 steps over f32[4] at b.0: it has 4",
  ],
  [
    () => scan(step, f32(), f32(3), { length: 2 }),
    "Cannot scan 2 steps over f32[3]: it has 3",
  ],
  [
    () => scan(step, f32(), { a: f32() }),
    "Cannot scan over f32[] at a: it has no axis of steps",
  ],
  [
    () => scan(step, f32(), null),
    "Cannot scan over no tensor: give the number of steps as length",
  ],
  [
    () => scan(step, f32(), null, { length: 1.5 }),
    "Cannot scan 1.5 steps: the number must be an integer from 0",
  ],
]);

eachBackend("a carry may be what was there before the loop", async () => {
  const run = (readsCarry: boolean) =>
    jit((x: Tensor, w: Tensor) => {
      const next = w.square();
      const step = (c: Tensor) => ({
        carry: next,
        y: readsCarry ? c.add(1) : null,
      });
      return scan(step, x, null, { length: 3 });
    });
  using reading = run(true);
  using other = run(false);
  const at = () => [tensor([5, 6]), tensor([2, 3])] as const;
  const { carry, ys } = reading(...at());
  assertEquals(await carry.toArray(), [4, 9]);
  assertEquals(await ys!.toArray(), [[6, 7], [5, 10], [5, 10]]);
  assertEquals(await other(...at()).carry.toArray(), [4, 9]);
});
