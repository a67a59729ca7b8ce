/**
 * checkGrads: it passes what is right, names what is wrong, and leaves the user's backend as it was.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { DTypeError, memory, random, type Tensor, tensor } from "cotan";
import { checkGrads } from "cotan/testing";
import { currentRuntime } from "../../../core/context.ts";
import { eachBackend, inFloat64 } from "../../support/backends.ts";

/** The message of the error that a check ends with. */
async function failure(check: Promise<void>): Promise<string> {
  return (await assertRejects(() => check, Error)).message;
}

eachBackend(
  "tensors of any backend, numbers and nested arrays are checked as they are",
  async () => {
    const runtime = currentRuntime();
    using ids = tensor([2, 0, 2], { dtype: "i32" });
    using table = tensor([[1, 2], [3, 4], [5, 6]]);
    using scale = tensor([0.5, -0.25]);
    const { liveBytes, tensors } = memory();
    const params = { table, norm: [scale, null] as const };
    await checkGrads(
      (p, ids, bias, rows) =>
        p.table.take(ids).mul(p.norm[0]).add(bias).matmul(rows).tanh(),
      [params, ids, 0.3, [[1, 2, 3], [4, 5, 6]]],
      { order: 2 },
    );
    assertEquals([memory().liveBytes, memory().tensors], [liveBytes, tensors]);
    assert(currentRuntime() === runtime);
  },
);

const wrong = (x: Tensor): Tensor => x.stopGradient().mul(x);

inFloat64(
  "a wrong gradient is named with its argument, the direction and both values",
  async () => {
    const message = await failure(
      checkGrads((p, y) => wrong(p.w[0]!).add(y), [{ w: [tensor([1, 2])] }, [
        3,
        4,
      ]]),
    );
    assertEquals(
      message,
      "Cannot confirm the gradient by argument 0.w.0: in the direction of key [0, 0] the rules give -0.4786410244, finite differences give -0.9572820487",
    );
  },
);

inFloat64(
  "a wrong second order is found behind a right first one",
  async () => {
    // 2x · [x] - [x²] is x² with the slope 2x of the rules, whose slope they take for 0.
    const f = (x: Tensor): Tensor =>
      x.mul(x.stopGradient().mul(2)).sub(x.square().stopGradient());
    await checkGrads(f, [[1, 2]]);
    const message = await failure(checkGrads(f, [[1, 2]], { order: 2 }));
    assert(
      message.startsWith(
        "Cannot confirm the gradient of the gradient by argument 0: ",
      ),
      message,
    );
  },
);

inFloat64("each argument is checked on its own", async () => {
  const f = (x: Tensor, y: Tensor): Tensor => x.mul(wrong(y));
  const message = await failure(checkGrads(f, [2, 3]));
  assert(
    message.startsWith("Cannot confirm the gradient by argument 1: "),
    message,
  );
});

inFloat64("a key gives other directions, and the same ones again", async () => {
  const check = (key?: Tensor): Promise<string> =>
    failure(checkGrads(wrong, [[1, 2, 3]], key && { key }));
  const [first, again, other] = [
    await check(),
    await check(),
    await check(random.key(5)),
  ];
  assertEquals(first, again);
  assert(other.includes("key [0, 5]") && other.slice(-10) !== first.slice(-10));
});

inFloat64("the tolerance is relative to the gradient", async () => {
  for (const size of [1e-6, 1, 1e6]) {
    const f = (x: Tensor): Tensor =>
      x.mul(size).add(x.stopGradient().mul(size * 1e-4));
    await checkGrads(f, [[1, 2]], { rtol: 1e-3 });
    await failure(checkGrads(f, [[1, 2]], { rtol: 1e-5 }));
  }
});

inFloat64("without a float there is nothing to check", async () => {
  const ids = tensor([1], { dtype: "i32" });
  const error = await assertRejects(
    () => checkGrads((x) => x.cast("f32"), [ids]),
    DTypeError,
  );
  assertEquals(
    error.message,
    "Cannot check gradients: no argument holds an f32 tensor",
  );
});

inFloat64(
  "a function that closes over a tensor is told that it lives elsewhere",
  async () => {
    const y = tensor([2]);
    const message = await failure(checkGrads((x) => x.mul(y), [[1]]));
    assertEquals(
      message,
      "Cannot use f32[1]: it lives on a reference backend that is not the current one; make it after init, or pass it to checkGrads as an argument",
    );
  },
);

Deno.test("gradients of integers are not checked", async () => {
  const error = await assertRejects(
    () => checkGrads((x) => x.cast("i32"), [[1, 2]]),
    DTypeError,
  );
  assertEquals(
    error.message,
    "Cannot check gradients of a function that returns i32[2]: only f32 has a gradient",
  );
});

Deno.test("the rounding of results that cancel is no wrong gradient", async () => {
  const ones = (x: Tensor) => x.sin().square().add(x.cos().square());
  for (let seed = 0; seed < 400; seed++) {
    await checkGrads(ones, [[seed, seed + 0.3]], { key: random.key(seed) });
  }
});
