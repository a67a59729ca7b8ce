/**
 * Donation: a program may overwrite what it is given, and what was given is gone.
 *
 * @module
 */

import { assertEquals, assertThrows } from "@std/assert";
import {
  DisposedError,
  jit,
  memory,
  ones,
  scope,
  type Tensor,
  tensor,
  TreeError,
} from "cotan";
import { eachBackend, inFloat64 } from "../support/backends.ts";

type State = { readonly m: Tensor; readonly n: readonly Tensor[] };

eachBackend(
  "a donated tensor that is read later throws, naming the program and the argument",
  async () => {
    const update = (s: State, x: Tensor): State => ({
      m: s.m.add(x),
      n: s.n.map((n) => n.mul(2)),
    });
    using step = jit(update, { donate: [0] });
    const state = { m: tensor([1]), n: [tensor([2]), tensor([3])] };
    const x = tensor([10]);
    const next = step(state, x);
    assertEquals(await next.m.toArray(), [11]);
    assertEquals(await next.n[1]!.toArray(), [6]);
    assertEquals(await x.toArray(), [10]);
    const gone: [() => unknown, string][] = [
      [
        () => state.m.data(),
        "Cannot read f32[1]: it was donated to update as argument 0.m",
      ],
      [
        () => state.n[1]!.add(1),
        "Cannot use f32[1]: it was donated to update as argument 0.n.1",
      ],
      [
        () => step(state, x),
        "Cannot use f32[1]: it was donated to update as argument 0.m",
      ],
    ];
    for (const [call, text] of gone) {
      assertEquals(assertThrows(call, DisposedError).message, text);
    }
    // Nothing of a call that fails is consumed.
    assertEquals(await next.m.toArray(), [11]);
  },
);

eachBackend("a donated state takes the same bytes at every step", async () => {
  using step = jit((w: Tensor, m: Tensor) => {
    const next = m.mul(0.9).add(w);
    return { w: w.sub(next.mul(0.1)), m: next };
  }, { donate: [0, 1] });
  let w = ones([64, 3]), m = ones([64, 3]);
  let after: { liveBytes: number; tensors: number } | undefined;
  for (let i = 0; i < 30; i++) {
    const out = step(w, m);
    [w, m] = [out.w, out.m];
    const { liveBytes, tensors } = memory();
    after ??= { liveBytes, tensors };
    assertEquals({ liveBytes, tensors }, after);
  }
  assertEquals((await w.data()).every(Number.isFinite), true);
});

eachBackend(
  "donated tensors may come out as they are, change places, or be dropped",
  async () => {
    const before = memory().liveBytes;
    const [a, b, c] = [tensor([1, 2]), tensor([3, 4]), tensor([5, 6])];
    using swap = jit((x: Tensor, y: Tensor, _: Tensor) => [y, x, y.add(x)], {
      donate: [0, 1, 2],
    });
    const out = swap(a, b, c) as unknown as Tensor[];
    assertEquals(await Promise.all(out.map((x) => x.toArray())), [[3, 4], [
      1,
      2,
    ], [4, 6]]);
    assertEquals(memory().tensors, 3);
    for (const x of out) x.dispose();
    assertEquals(memory().liveBytes, before);
  },
);

eachBackend("an input is overwritten only after its last use", async () => {
  const x = tensor([[1, 2], [3, 4]]);
  using f = jit((x: Tensor) => {
    const t = x.transpose();
    return { sum: x.add(t), product: x.matmul(t), total: x.sum() };
  }, { donate: [0] });
  const out = f(x);
  assertEquals(await out.sum.toArray(), [[2, 5], [5, 8]]);
  assertEquals(await out.product.toArray(), [[5, 11], [11, 25]]);
  assertEquals(await out.total.item(), 10);
});

inFloat64(
  "a tensor cannot be donated twice, nor be read elsewhere in the call",
  () => {
    const x = ones([2]);
    using both = jit((x: Tensor, y: Tensor) => x.add(y), {
      donate: [0, 1],
      name: "both",
    });
    using one = jit((x: Tensor, y: Tensor) => x.add(y), {
      donate: [0],
      name: "one",
    });
    using closed = jit((y: Tensor) => x.add(y), {
      donate: [0],
      name: "closed",
    });
    const shared =
      "the call also reads it as another argument or closes over it";
    const cases: [() => unknown, string][] = [
      [
        () => both(x, x),
        "Cannot donate f32[2] to both twice: it stands in two places; pass a copy in one",
      ],
      [() => one(x, x), `Cannot donate f32[2] to one: ${shared}`],
      [() => closed(x), `Cannot donate f32[2] to closed: ${shared}`],
    ];
    for (const [call, text] of cases) {
      assertEquals(assertThrows(call, TreeError).message, text);
    }
    assertEquals(x.shape, [2]);
    scope(() => one(x.mul(1), x));
  },
);
