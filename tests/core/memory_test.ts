/**
 * Memory: what is made is freed, by hand, by scopes, and in a training loop by itself.
 *
 * @module
 */

import { assertEquals, assertThrows } from "@std/assert";
import {
  DisposedError,
  grad,
  init,
  jit,
  type Memory,
  memory,
  ones,
  random,
  scope,
  type Tensor,
  tensor,
  tree,
  valueAndGrad,
} from "cotan";
import { eachBackend, inFloat64 } from "../support/backends.ts";

/** What must come back to where it was; programs are kept on purpose. */
function inUse(): Pick<Memory, "liveBytes" | "tensors"> {
  const { liveBytes, tensors } = memory();
  return { liveBytes, tensors };
}

/** Asserts that `f` leaves nothing behind. */
async function assertNoLeak(f: () => void | Promise<void>): Promise<void> {
  const before = inUse();
  await f();
  assertEquals(inUse(), before);
}

eachBackend(
  "using frees a tensor at the end of its block",
  () =>
    assertNoLeak(async () => {
      using x = ones([64]);
      assertEquals(memory().liveBytes, 256);
      using y = x.add(1);
      assertEquals(inUse(), { liveBytes: 512, tensors: 2 });
      assertEquals((await y.data())[63], 2);
    }),
);

eachBackend(
  "a scope frees what was made inside and keeps what it returns",
  () =>
    assertNoLeak(() => {
      using x = ones([8, 8]);
      const { out, deep } = scope(() => {
        const y = x.matmul(x).add(x);
        return { out: y.sum(), deep: [{ y, note: "not a tensor" }] };
      });
      assertEquals(memory().tensors, 3);
      out.dispose();
      deep[0]!.y.dispose();
    }),
);

inFloat64(
  "scopes nest: what an inner one returns belongs to the outer one",
  () =>
    assertNoLeak(() => {
      scope(() => {
        const inner = scope(() => ones([2]).add(1));
        assertEquals(memory().tensors, 1);
        scope(() => {
          inner.mul(2);
        });
        assertEquals(memory().tensors, 1);
      });
    }),
);

inFloat64(
  "a scope that throws frees what was made inside",
  () =>
    assertNoLeak(() => {
      assertThrows(() =>
        scope(() => {
          ones([3]).matmul(ones([4]));
        }), RangeError);
    }),
);

inFloat64("what a scope was given stays", () =>
  assertNoLeak(() => {
    using x = ones([3]);
    const same = scope(() => x);
    assertEquals(same, x);
    assertEquals(memory().tensors, 1);
  }));

inFloat64("an asynchronous function has no scope", async () => {
  const error = assertThrows(
    () =>
      scope(async () => {
        const x = ones([1]);
        await null;
        return x.add(1);
      }),
    TypeError,
  );
  assertEquals(
    error.message,
    "Cannot scope an async function: what it makes after an await is out of sight; use `using` there",
  );
  // That its x is gone by then would end the process.
  await new Promise((resolve) => setTimeout(resolve));
});

inFloat64(
  "a tensor that was disposed of cannot be used, but disposed of again",
  () => {
    const x = ones([2, 3]);
    x.dispose();
    x.dispose();
    const cases: [() => unknown, string][] = [
      [() => x.data(), "Cannot read f32[2, 3]: it was disposed of"],
      [() => x.add(1), "Cannot use f32[2, 3]: it was disposed of"],
      [
        () => grad((y: Tensor) => y.mul(x).sum())(ones([3])),
        "Cannot use f32[2, 3]: it was disposed of",
      ],
    ];
    for (const [call, text] of cases) {
      assertEquals(assertThrows(call, DisposedError).message, text);
    }
  },
);

inFloat64(
  "every operation makes a tensor of its own, also where nothing changes",
  async () => {
    const x = ones([2, 1]);
    const same = [
      x.expand([2, 1]),
      x.reshape([2, 1]),
      x.transpose([0, 1]),
      x.cast("f32"),
      x.squeeze([]),
      x.slice([]),
      x.stopGradient(),
      x.flip([]),
      x.sum({ axis: [] }),
      x.tile([1]),
      x.pad([]),
    ];
    for (const y of same) y.dispose();
    assertEquals(await x.toArray(), [[1], [1]]);
  },
);

eachBackend("transformations leave nothing behind", () =>
  assertNoLeak(() => {
    using x = ones([5]);
    const loss = (x: Tensor) => x.tanh().mul(x).sum();
    using _ = jit(loss);
    for (let i = 0; i < 3; i++) {
      grad(loss)(x).dispose();
      const { value, grads } = valueAndGrad(loss)(x);
      value.dispose();
      grads.dispose();
      _(x).dispose();
      assertThrows(() => grad((x: Tensor) => x.matmul(ones([4])))(x));
    }
  }));

type Params = { readonly w: Tensor; readonly b: Tensor };

eachBackend(
  "200 steps of training leave the same live bytes as 20",
  async () => {
    using key = random.key(1);
    using x = random.normal(key, [32, 4]);
    using y = x.sum({ axis: 1, keepDims: true });
    const loss = ({ w, b }: Params): Tensor =>
      x.matmul(w).add(b).sub(y).square().mean();
    using step = jit((params: Params, momentum: Params) => {
      const { value, grads } = valueAndGrad(loss)(params);
      const next = tree.map((m, g) => m.mul(0.9).add(g!), momentum, grads);
      return {
        params: tree.map((p, m) => p.sub(m!.mul(0.02)), params, next),
        momentum: next,
        value,
      };
    }, { donate: [0, 1] });
    const start = (): Params => ({ w: ones([4, 1]), b: ones([1]) });
    let params = start(), momentum = start();
    const losses: number[] = [];
    let at20: Memory | undefined;
    for (let i = 1; i <= 200; i++) {
      const out = step(params, momentum);
      ({ params, momentum } = out);
      losses.push(await out.value.item());
      out.value.dispose();
      if (i === 20) at20 = memory();
    }
    assertEquals(memory(), at20);
    assertEquals(losses.at(-1)! < losses[0]! / 100, true);
  },
);

Deno.test("tensors stay on the backend that was current when they were made", async () => {
  using _ = await init({ backend: "reference" });
  const x = tensor([1, 2]);
  using __ = await init({ backend: "reference" });
  assertEquals(await x.toArray(), [1, 2]);
  const error = assertThrows(() => x.add(1), Error);
  assertEquals(error.name, "DeviceError");
  assertEquals(
    error.message,
    "Cannot use f32[2]: it lives on a reference backend that is not the current one; make it after init, or pass it to checkGrads as an argument",
  );
  x.dispose();
});
