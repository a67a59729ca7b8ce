/**
 * What holds of every optimizer: it descends, in one program, in the memory it has, and keeps holes.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { memory, scope, type Tensor, tensor, tree } from "cotan";
import {
  adamw,
  chain,
  clipByGlobalNorm,
  clipByValue,
  lion,
  meanGradients,
  type Optimizer,
  sgd,
  warmupLinear,
} from "cotan/nn";
import { assertClose } from "../../support/allclose.ts";
import { eachBackend, inFloat64 } from "../../support/backends.ts";
import { kindsOf, programOf } from "../../support/programs.ts";
import { check } from "../../support/runs.ts";
import { values, varied } from "../support.ts";
import { optimizersAt, type Params, pathsOf, step, train } from "./support.ts";

/** Parameters without a pattern. */
function someParams(seed = 1): Params {
  return {
    up: { weight: varied([3, 2], seed), bias: varied([2], seed + 1) },
    gain: varied([], seed + 2),
  };
}

/** Half the squared distance from a point, each leaf with its curvature. */
function distance(params: Params, to: Params, curvature: number): Tensor {
  return tree.leaves(params).map(({ leaf }, i) =>
    leaf.sub(tree.leaves(to)[i]!.leaf).square().sum().mul((i + 1) * curvature)
  ).reduce((a, b) => a.add(b));
}

for (const name of Object.keys(optimizersAt(0))) {
  inFloat64(`${name} descends on a convex quadratic`, () =>
    check(
      fc.asyncProperty(
        fc.nat(1000),
        fc.double({ min: 0.1, max: 2, noNaN: true }),
        async (seed, curvature) => {
          const target = tree.map((t) => t.add(3), someParams(seed + 10));
          const { losses } = await train(
            optimizersAt(0.01)[name]!,
            (p: Params) => distance(p, target, curvature),
            () => someParams(seed),
            12,
          );
          assert(losses.at(-1)! < losses[0]!, `${losses}`);
        },
      ),
      3,
    ));
}

eachBackend(
  "every optimizer is one program and allocates nothing from the second step to the 50th",
  async (_, t) => {
    const rate = warmupLinear({ peak: 0.01, warmup: 5, steps: 40 });
    const target = someParams(5);
    for (const [name, optimizer] of Object.entries(optimizersAt(rate))) {
      await t.step(name, async () => {
        const { memories, losses } = await train(
          optimizer,
          (p: Params) => distance(p, target, 1),
          () => someParams(1),
          50,
        );
        assertEquals(memories[1], memories[0]);
        assert(losses.every(Number.isFinite));
      });
    }
    for (const { leaf } of tree.leaves(target)) leaf.dispose();
  },
);

inFloat64("an update outside jit leaves nothing behind but its results", () => {
  for (const optimizer of Object.values(optimizersAt(0.1))) {
    const params = someParams(1), grads = someParams(2);
    const start = memory().tensors;
    const state = optimizer.init(params);
    assertEquals(memory().tensors, start + pathsOf(state).length);
    const before = memory().tensors;
    const out = optimizer.update(grads, state, params);
    const made = pathsOf([out.updates, out.state]).length;
    assertEquals(memory().tensors, before + made);
  }
});

inFloat64(
  "holes stay holes in updates and state, and change nothing",
  async () => {
    for (const [name, optimizer] of Object.entries(optimizersAt(0.1))) {
      // A norm to clip to is far off, so that leaves do not depend on each other.
      const whole = someParams(1), grads = someParams(2);
      const isKept = (path: string): boolean => path !== "gain";
      const [params] = tree.partition(whole, isKept);
      const [some] = tree.partition(grads, isKept);
      const state = optimizer.init(params);
      const out = optimizer.update(some, state, params);
      assertEquals(pathsOf(out.updates), ["up.weight", "up.bias"], name);
      assertEquals(out.updates.gain, null as unknown as Tensor);
      assertEquals(pathsOf(out.state), pathsOf(state), name);
      assert(!pathsOf(state).some((path) => path.endsWith("gain")), name);
      const all = optimizer.update(grads, optimizer.init(whole), whole).updates;
      await assertClose(out.updates.up.weight, all.up.weight, { rtol: 1e-12 });
      await assertClose(out.updates.up.bias, all.up.bias, { rtol: 1e-12 });
    }
  },
);

inFloat64("a state is tensors, its counts i32, and keeps its structure", () => {
  for (const optimizer of Object.values(optimizersAt(0.1))) {
    const params = someParams(1), state = optimizer.init(params);
    // A host number is no leaf: this throws.
    const leaves = tree.leaves(state);
    assert(leaves.some(({ path }) => path.endsWith("count")));
    for (const { path, leaf } of leaves) {
      const isCount = path.endsWith("count");
      assertEquals(leaf.dtype, isCount ? "i32" : "f32");
    }
    const next = optimizer.update(params, state, params).state;
    assertEquals(
      tree.leaves(next).map(({ path, leaf }) => `${path} ${leaf}`),
      leaves.map(({ path, leaf }) => `${path} ${leaf}`),
    );
  }
});

inFloat64(
  "a leaf outside the mask does not decay, one inside does",
  async () => {
    const options = { learningRate: 0.1, mask: "weight" };
    const params = someParams(1), grads = someParams(2);
    const without = optimizersAt(0.1);
    for (const [name, optimizer] of Object.entries(without)) {
      if (/^(sgd|chain|accumulate)$/.test(name)) continue;
      const none = optimizer.update(
        tree.map((g) => g.mul(0), grads),
        optimizer.init(params),
        params,
      ).updates;
      await assertClose(none.up.bias, [0, 0], { rtol: 0, atol: 1e-12 });
      await assertClose(none.gain, [0], { rtol: 0, atol: 1e-12 });
      const [first] = await none.up.weight.data();
      assert(first! * (await params.up.weight.data())[0]! < 0, name);
    }
    const plain = adamw({ ...options, weightDecay: 0 });
    const decayed = adamw({ ...options, weightDecay: 0.5 });
    const [a, b] = [plain, decayed].map((o) =>
      o.update(grads, o.init(params), params).updates
    );
    await assertClose(b!.up.bias, a!.up.bias, { rtol: 0, atol: 0 });
    await assertClose(
      b!.up.weight,
      a!.up.weight.sub(params.up.weight.mul(0.05)),
      { rtol: 1e-12, atol: 1e-15 },
    );
  },
);

inFloat64("lion's updates are at most rate · (1 + decay · |p|)", () =>
  check(
    fc.asyncProperty(
      fc.array(fc.double({ noNaN: true, min: -1e6, max: 1e6 }), {
        minLength: 4,
        maxLength: 4,
      }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      async (gradient, learningRate, weightDecay) => {
        const optimizer = lion({ learningRate, weightDecay });
        const params = { w: varied([4], 3) }, g = { w: tensor(gradient) };
        const out = optimizer.update(g, optimizer.init(params), params);
        const p = values(4, 3);
        (await out.updates.w.data()).forEach((u, i) => {
          const most = learningRate * (1 + weightDecay * Math.abs(p[i]!));
          assert(Math.abs(u) <= most * (1 + 1e-12));
        });
      },
    ),
    20,
  ));

inFloat64("chain is associative", () =>
  check(
    fc.asyncProperty(fc.nat(1000), fc.nat(1000), async (seed, other) => {
      const of = () =>
        [
          clipByGlobalNorm(1),
          sgd({ learningRate: 1, momentum: 0.9 }),
          clipByValue(0.3),
        ] as const;
      const [a, b, c] = of(), [d, e, f] = of();
      const left: Optimizer = chain(chain(a, b), c);
      const right: Optimizer = chain(d, chain(e, f));
      const ends = [left, right].map((optimizer) => {
        let params = someParams(seed), state = optimizer.init(params);
        for (const g of [other, other + 1]) {
          ({ params, state } = step(optimizer, someParams(g), state, params));
        }
        return params;
      });
      await assertSame(ends[0]!, ends[1]!);
    }),
    5,
  ));

/** Asserts that two trees have the same bits. */
async function assertSame(a: Params, b: Params): Promise<void> {
  const others = tree.leaves(b);
  for (const [i, { leaf }] of tree.leaves(a).entries()) {
    const exact = { rtol: 0, atol: 0, signedZero: true };
    await assertClose(leaf, others[i]!.leaf, exact);
  }
}

Deno.test("updates of many leaves are few launches", () => {
  const many = 12;
  const shapes = Array.from({ length: many }, (_, i) => [8 + i]);
  const options = { learningRate: 0.1, weightDecay: 0.1, mask: "*" };
  const cases: [Optimizer, number][] = [
    [sgd({ ...options, momentum: 0.9 }), 3],
    [adamw(options), 4],
    [lion(options), 4],
  ];
  for (const [optimizer, most] of cases) {
    const program = programOf((...xs) => {
      const params = xs.slice(0, many);
      const state = optimizer.init(params);
      return optimizer.update(xs.slice(many), state, params) as tree.Tree;
    }, [...shapes, ...shapes]);
    assert(kindsOf(program).length <= most, String(program));
  }
});

eachBackend(
  "meanGradients is the gradient of the mean over all rows",
  async () => {
    const x = varied([4, 5, 3], 1), y = varied([4, 5, 2], 2);
    const loss = (p: { w: Tensor }, x: Tensor, y: Tensor): Tensor =>
      x.matmul(p.w).sub(y).square().mean();
    const params = { w: varied([3, 2], 3) };
    const micro = meanGradients(loss)(params, x, y);
    const whole = meanGradients(loss)(
      params,
      x.reshape([1, 20, 3]),
      y.reshape([1, 20, 2]),
    );
    await assertClose(micro.value, whole.value);
    await assertClose(micro.grads.w, whole.grads.w);
  },
);

inFloat64(
  "meanGradients leaves nothing behind but its results, and steps in jit",
  async () => {
    const x = varied([4, 5, 3], 1), frozen = varied([3], 2);
    const loss = (p: Params, x: Tensor): Tensor =>
      x.mul(frozen).matmul(p.up.weight).add(p.up.bias).mul(p.gain).square()
        .mean();
    const optimizer = sgd({ learningRate: 0.1 });
    const params = someParams();
    const before = memory().tensors;
    const { grads } = scope(() => meanGradients(loss)(params, x));
    assertEquals(memory().tensors, before + 4);
    assertEquals(pathsOf(grads), ["up.weight", "up.bias", "gain"]);
    const whole = (p: Params): Tensor => meanGradients(loss)(p, x).value;
    const first = await whole(params).item();
    const next = step(optimizer, grads, optimizer.init(params), params).params;
    assert(await whole(next).item() < first);
  },
);

Deno.test("meanGradients needs no more room for more micro-batches", () => {
  const [four, forty] = [4, 40].map((count) =>
    programOf(
      (w, x) =>
        meanGradients((w: Tensor, x: Tensor) =>
          x.matmul(w).tanh().square().mean()
        )(w!, x!).grads,
      [[16, 16], [count, 32, 16]],
    ).arenaBytes
  );
  assertEquals(forty, four);
});
