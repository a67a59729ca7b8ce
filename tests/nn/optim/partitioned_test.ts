import { assertEquals } from "@std/assert";
import { type Tensor, tensor, type tree, TreeError } from "cotan";
import {
  adamw,
  chain,
  clipByGlobalNorm,
  partitioned,
  sgd,
  warmupLinear,
} from "cotan/nn";
import { assertClose } from "../../support/allclose.ts";
import { eachBackend, inFloat64 } from "../../support/backends.ts";
import { f32, throws } from "../../support/throws.ts";
import { varied } from "../support.ts";
import { pathsOf, step } from "./support.ts";

/** Adapters of two layers. */
function adapters(): Record<string, { lora: { a: Tensor; b: Tensor } }> {
  return Object.fromEntries(
    ["q_proj", "v_proj"].map((name, i) => [
      name,
      { lora: { a: varied([2, 3], i + 1), b: varied([4, 2], i + 3) } },
    ]),
  );
}

eachBackend(
  "LoRA+ is one line: b learns as with a rate of its own",
  async () => {
    const rate = 0.01, ratio = 16;
    const optimizer = partitioned(
      [["lora.b", adamw({ learningRate: ratio * rate })]],
      adamw({ learningRate: rate }),
    );
    const ends = [optimizer, adamw({ learningRate: rate })].map((optimizer) => {
      let params = adapters(), state = optimizer.init(params);
      for (let k = 0; k < 2; k++) {
        ({ params, state } = step(optimizer as never, params, state, params));
      }
      return params;
    });
    const start = adapters();
    const { updates } = optimizer.update(start, optimizer.init(start), start);
    const even = adamw({ learningRate: rate });
    const same = even.update(start, even.init(start), start).updates;
    for (const name of Object.keys(start)) {
      const ours = updates[name]!.lora, theirs = same[name]!.lora;
      await assertClose(ours.a, theirs.a, { rtol: 0, atol: 0 });
      await assertClose(ours.b, theirs.b.mul(ratio));
      await assertClose(ends[0]![name]!.lora.a, ends[1]![name]!.lora.a);
    }
  },
);

inFloat64("a group clips to the norm of its own leaves", async () => {
  const params = { a: tensor([3, 4]), b: tensor([30, 40]), c: tensor([1]) };
  const clipped = chain(clipByGlobalNorm(1), sgd({ learningRate: 1 }));
  const optimizer = partitioned([["a", clipped], ["b", clipped]], {
    init: () => null,
    update: (grads) => ({ updates: grads, state: null }),
  });
  const state = optimizer.init(params);
  const { updates } = optimizer.update(params, state, params);
  await assertClose(updates.a, [-0.6, -0.8], { rtol: 1e-6 });
  await assertClose(updates.b, [-0.6, -0.8], { rtol: 1e-6 });
  await assertClose(updates.c, [1]);
});

inFloat64("groups have counts of their own, and each leaf one state", () => {
  const params = { a: varied([2]), b: varied([3]), c: null };
  const rate = warmupLinear({ peak: 1, warmup: 1, steps: 3 });
  const optimizer = partitioned(
    [["a", adamw({ learningRate: rate })]],
    adamw({ learningRate: 1 }),
  );
  const state = optimizer.init(params);
  assertEquals(pathsOf(state), [
    "0.count",
    "0.mu.a",
    "0.nu.a",
    "1.count",
    "1.mu.b",
    "1.nu.b",
  ]);
  const out = optimizer.update(params, state, params);
  assertEquals(pathsOf(out.state), pathsOf(state));
  assertEquals(pathsOf(out.updates), ["a", "b"]);
  assertEquals(out.updates.c, null);
});

inFloat64(
  "one tensor is a tree too",
  async () => {
    const optimizer = partitioned([[() => true, sgd({ learningRate: 1 })]]);
    const x = tensor([2]);
    const { updates } = optimizer.update(x, optimizer.init(x), x);
    await assertClose(updates, [-2]);
  },
);

const some = sgd({ learningRate: 1 });
const init = (
  groups: Parameters<typeof partitioned>[0],
  params: tree.Tree,
): unknown => partitioned(groups).init(params);

throws("leaves that no optimizer or two would take are errors", TreeError, [
  [
    () => init([["weight", some]], { weight: f32(2, 3), bias: f32(2) }),
    "Cannot give f32[2] at bias to one optimizer: no selector takes it; name an optimizer for all others",
  ],
  [
    () => init([["a.*", some], [/.*x/, some]], { a: { x: f32(2) } }),
    "Cannot give f32[2] at a.x to one optimizer: selectors 0 and 1 take it; let one",
  ],
  [
    () => init([["gain", some]], { weight: f32(2, 3), bias: f32(2) }),
    'Cannot select by "gain": it matches no leaf; there are weight, bias',
  ],
]);
