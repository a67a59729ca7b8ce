import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  jit,
  memory,
  type Tensor,
  tensor,
  tree,
  TreeError,
  valueAndGrad,
  zeros,
} from "cotan";
import {
  adamw,
  applyUpdates,
  chain,
  clipByGlobalNorm,
  type Optimizer,
  sgd,
} from "cotan/nn";
import { assertClose, useOracle, varied } from "../support.ts";

Deno.test.beforeAll(useOracle);

Deno.test("the first steps of adamw are exact in float32 for b2 near 1", async () => {
  // With a constant gradient every bias-corrected moment is the gradient, so each step is the rate.
  const optimizer = adamw({ learningRate: 1, weightDecay: 0, b2: 0.9999 });
  const params = { w: tensor([0]) }, grads = { w: tensor([0.25]) };
  let state = optimizer.init(params);
  for (let k = 0; k < 3; k++) {
    const out = optimizer.update(grads, state, params);
    state = out.state;
    await assertClose(out.updates.w, [-1], { within: 1e-6 });
  }
});

Deno.test("b1 = b2 = 0 makes adamw step by the sign of the gradient", async () => {
  const optimizer = adamw({ learningRate: 2, b1: 0, b2: 0, weightDecay: 0 });
  const params = { w: tensor([1, 1]) }, grads = { w: tensor([3, -4]) };
  const out = optimizer.update(grads, optimizer.init(params), params);
  await assertClose(out.updates.w, [-2, 2], { within: 1e-6 });
});

Deno.test("a mask says which leaves decay", async () => {
  const params = { weight: tensor([2]), bias: tensor([2]) };
  const grads = { weight: tensor([0]), bias: tensor([0]) };
  const optimizer = adamw({
    learningRate: 0.5,
    weightDecay: 0.1,
    mask: "weight",
  });
  const { updates } = optimizer.update(grads, optimizer.init(params), params);
  await assertClose(updates.weight, [-0.1]);
  await assertClose(updates.bias, [0]);
  assertThrows(
    () =>
      adamw({ learningRate: 1, mask: "gain" })
        .update(grads, optimizer.init(params), params),
    TreeError,
    'Cannot select by "gain": it matches no leaf; there are weight, bias',
  );
});

Deno.test("holes in the parameters stay holes in updates and state", () => {
  const whole = { a: { w: varied([2]), b: varied([2]) }, c: [varied([3])] };
  const [params] = tree.partition(whole, "w");
  const optimizer = chain(
    clipByGlobalNorm(1),
    adamw({ learningRate: 1 }),
  );
  const state = optimizer.init(params);
  const out = optimizer.update(params, state, params);
  const paths = (t: tree.Tree) => tree.leaves(t).map(({ path }) => path);
  assertEquals(paths(out.updates), ["a.w"]);
  assertEquals(out.updates.c, [null as unknown as Tensor]);
  assertEquals(paths(out.state[1].mu), ["a.w"]);
  assertEquals(paths(out.state[1].nu), ["a.w"]);
  assertEquals(paths(out.state), paths(state));
});

Deno.test("a schedule gives the rate from the number of updates done", async () => {
  const optimizer = sgd({ learningRate: (count) => count.cast("f32").add(1) });
  const params = { w: tensor([0]) }, grads = { w: tensor([1]) };
  let state = optimizer.init(params);
  for (const rate of [1, 2, 3]) {
    const out = optimizer.update(grads, state, params);
    state = out.state;
    await assertClose(out.updates.w, [-rate]);
  }
});

Deno.test("a jitted training step with donated state learns, in one program, and keeps no tensors", async () => {
  const x = varied([8, 3], 1), target = varied([8, 2], 2);
  const loss = (p: { w: Tensor }) => x.matmul(p.w).sub(target).square().mean();
  const optimizer = chain(clipByGlobalNorm(10), adamw({ learningRate: 0.05 }));
  type State = ReturnType<typeof optimizer.init>;
  using step = jit((params: { w: Tensor }, state: State) => {
    const { value, grads } = valueAndGrad(loss)(params);
    const out = optimizer.update(grads, state, params);
    return {
      params: applyUpdates(params, out.updates),
      state: out.state,
      value,
    };
  }, { donate: [0, 1] });
  let params = { w: zeros([3, 2]) }, state = optimizer.init(params);
  const losses: number[] = [];
  let after = memory();
  for (let k = 0; k < 30; k++) {
    const out = step(params, state);
    ({ params, state } = out);
    losses.push(await out.value.item());
    out.value.dispose();
    if (k === 0) after = memory();
  }
  assert(losses.at(-1)! < 0.9 * losses[0]!);
  assertEquals(memory(), after);
});

Deno.test("an update outside jit leaves nothing behind but its results", () => {
  const params = { w: varied([3]) };
  const optimizers: Optimizer[] = [
    adamw({ learningRate: 1 }),
    sgd({ learningRate: 1, momentum: 0.9, nesterov: true }),
  ];
  for (const optimizer of optimizers) {
    const state = optimizer.init(params);
    const before = memory().tensors;
    const out = optimizer.update(params, state, params);
    const made = tree.leaves([out.updates, out.state]).length;
    assertEquals(memory().tensors, before + made);
  }
});

Deno.test("settings out of range are errors", () => {
  const cases: [() => unknown, string][] = [
    [
      () => adamw({ learningRate: -1 }),
      "Cannot learn at rate -1: it must be finite and not negative",
    ],
    [
      () => adamw({ learningRate: 1, b1: 1 }),
      "Cannot average with b1 1: it must be at least 0 and below 1",
    ],
    [
      () => sgd({ learningRate: NaN }),
      "Cannot learn at rate NaN: it must be finite and not negative",
    ],
    [() => clipByGlobalNorm(0), "Cannot clip to norm 0: it must be positive"],
  ];
  for (const [make, message] of cases) {
    assertThrows(make, RangeError, message);
  }
});
