import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { jit, type Tensor, tensor, tree } from "cotan";
import {
  accumulate,
  adafactor,
  adamw,
  chain,
  clipByGlobalNorm,
  lion,
  type Optimizer,
  sgd,
  warmupLinear,
} from "cotan/nn";
import { assertClose } from "../../support/allclose.ts";
import { eachBackend, inFloat64 } from "../../support/backends.ts";
import { check } from "../../support/runs.ts";
import { varied } from "../support.ts";
import { step } from "./support.ts";

const exact = { rtol: 0, atol: 0, signedZero: true };

/** Optimizers with every kind of state. */
function inner(): Record<string, Optimizer> {
  const learningRate = warmupLinear({ peak: 0.1, warmup: 2, steps: 9 });
  return {
    sgd: sgd({ learningRate, momentum: 0.9 }),
    adamw: chain(clipByGlobalNorm(1), adamw({ learningRate })),
    lion: lion({ learningRate }),
    adafactor: adafactor({ learningRate }),
  };
}

type Params = { w: Tensor; hole: null; list: Tensor[] };

function someTree(seed: number): Params {
  return { w: varied([2, 3], seed), hole: null, list: [varied([2], seed + 1)] };
}

async function assertTrees(
  a: tree.Tree,
  b: tree.Tree,
  bound: { rtol: number; atol: number; signedZero?: boolean },
): Promise<void> {
  const others = tree.leaves(b);
  for (const [i, { path, leaf }] of tree.leaves(a).entries()) {
    const what = path;
    await assertClose(leaf, others[i]!.leaf, { ...bound, what });
  }
}

for (const how of ["one by one", "in one program"]) {
  eachBackend(
    `between steps parameters and inner state keep every bit, ${how}`,
    async () => {
      const optimizer = accumulate(adamw({ learningRate: 0.1 }), 3);
      type State = ReturnType<typeof optimizer.init>;
      const start = [0, -0, 1e-30, -3, NaN, Infinity].map(Math.fround);
      const update = (p: { w: Tensor }, s: State, grads: { w: Tensor }) =>
        step(optimizer, grads, s, p);
      using compiled = jit(update, { donate: [0, 1] });
      let params = { w: tensor(start) }, state = optimizer.init(params);
      const grads = { w: tensor([1, 2, 3, -4, 5, 6]) };
      for (let k = 1; k <= 2; k++) {
        const call = how === "one by one" ? update : compiled;
        ({ params, state } = call(params, state, grads));
        await assertClose(params.w, start, exact);
        for (const { leaf } of tree.leaves(state.inner)) {
          const zero = (await leaf.data()).map(() => 0);
          await assertClose(leaf, zero, exact);
        }
        assertEquals(await state.count.item(), k);
      }
    },
  );
}

inFloat64("a step is that of the mean gradient", () =>
  check(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 5 }),
      fc.nat(1000),
      async (every, seed) => {
        for (const [name, optimizer] of Object.entries(inner())) {
          const wrapped = accumulate(optimizer, every);
          let params = someTree(seed), state = wrapped.init(params);
          let plain = { params, state: optimizer.init(params) };
          for (let round = 0; round < 2; round++) {
            const micro = Array.from(
              { length: every },
              (_, i) => someTree(seed + 10 * round + i),
            );
            for (const grads of micro) {
              ({ params, state } = step(wrapped, grads, state, params));
            }
            const mean = tree.map(
              (g, ...rest) => rest.reduce((a, b) => a.add(b), g).div(every),
              micro[0]!,
              ...micro.slice(1),
            );
            plain = step(optimizer, mean, plain.state, plain.params);
            await assertTrees(params, plain.params, {
              rtol: 1e-10,
              atol: 1e-12,
            });
            await assertTrees(state.inner, plain.state, {
              rtol: 1e-10,
              atol: 1e-12,
            });
            assertEquals(await state.count.item(), 0, name);
          }
        }
      },
    ),
    3,
  ));

eachBackend("one gradient at a time is the optimizer itself", async () => {
  for (const optimizer of Object.values(inner())) {
    const wrapped = accumulate(optimizer, 1);
    let a = { params: someTree(1), state: wrapped.init(someTree(1)) };
    let b = { params: someTree(1), state: optimizer.init(someTree(1)) };
    for (let k = 0; k < 3; k++) {
      const grads = someTree(k + 2);
      a = step(wrapped, grads, a.state, a.params);
      b = step(optimizer, grads, b.state, b.params);
    }
    await assertTrees(a.params, b.params, exact);
    await assertTrees(a.state.inner, b.state, exact);
  }
});
