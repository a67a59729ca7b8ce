import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  init,
  jit,
  random,
  type Tensor,
  tensor,
  tree,
  TreeError,
  valueAndGrad,
} from "../../core/mod.ts";
import {
  type CascadeState,
  combineAdapters,
  dropAdapters,
  isAdapter,
  lorasc,
  type LorascOptions,
  mergeAdapters,
  quantize,
  stagewise,
} from "../../lora/mod.ts";
import { adamw, applyUpdates, type LlamaParams } from "../../nn/mod.ts";
import { check } from "../support/runs.ts";
import { baseParams, logits, model, options, trained } from "./support.ts";

await init({ backend: "reference", precision: "f64" });

const base = baseParams();
const { weight: W0 } = base.model.layers[1]!.self_attn.q_proj;
const make = (changes: Partial<LorascOptions> = {}) =>
  lorasc({ ...options, noise: 0, ...changes });
const keyed = (i: number) => random.foldIn(random.key(9), i);

/** Trains a number of stages, in effect: fills the adapters with noise. */
function stages(
  cascade: ReturnType<typeof make>,
  count: number,
): { state: CascadeState<LlamaParams>; tuned: LlamaParams[] } {
  let state = cascade.init(base, keyed(0));
  const tuned: LlamaParams[] = [];
  for (let t = 0; t < count; t++) {
    const model = trained(cascade.params(state, keyed(100 + t)));
    tuned.push(model);
    state = cascade.next(state, model, keyed(t + 1));
  }
  return { state, tuned };
}

/** The change of the watched weight by the adapter of a model. */
function change(tuned: LlamaParams): Tensor {
  const { a, b, scale } = tuned.model.layers[1]!.self_attn.q_proj.lora!;
  return b.matmul(a).mul(scale);
}

async function close(
  x: Tensor | ArrayLike<number>,
  y: Tensor | ArrayLike<number>,
): Promise<void> {
  const [u, v] = [
    "data" in x ? await (x as Tensor).data() : x,
    "data" in y ? await (y as Tensor).data() : y,
  ];
  assertEquals(u.length, v.length);
  for (let i = 0; i < u.length; i++) {
    assert(Math.abs(u[i]! - v[i]!) < 1e-9, `${u[i]} is not ${v[i]}`);
  }
}

const watched = (params: LlamaParams) =>
  params.model.layers[1]!.self_attn.q_proj.weight;

Deno.test("the slow weights are W₀ + S with S ← decay · S + slowRate · F", async () => {
  const share = fc.double({ min: 0.1, max: 1, noNaN: true });
  const property = fc.asyncProperty(
    share,
    share,
    fc.integer({ min: 1, max: 3 }),
    async (slowRate, decay, count) => {
      const cascade = make({ slowRate, decay });
      const { state, tuned } = stages(cascade, count);
      const S = tuned.map(change).reduce(
        (S, F) => S.mul(decay).add(F.mul(slowRate)),
        tensor(0),
      );
      await close(watched(cascade.weights(state)), W0.add(S));
      const { lora } = cascade.adapter(state).model.layers[1]!.self_attn.q_proj;
      assertEquals(lora!.a.shape, [3 * count, 8]);
      await close(
        await logits(cascade.adapter(state)),
        await logits(cascade.weights(state)),
      );
    },
  );
  await check(property, 6);
});

Deno.test("with slowRate 1 and no noise it is merging one adapter after another", async () => {
  const cascade = make({ slowRate: 1 });
  let state = cascade.init(base, keyed(0)), merged = base;
  for (let t = 0; t < 3; t++) {
    const model = trained(cascade.params(state, null));
    // The same adapter on what has been merged so far.
    await close(watched(model), watched(merged));
    merged = mergeAdapters(model);
    state = cascade.next(state, model, keyed(t + 1));
    await close(watched(cascade.weights(state)), watched(merged));
  }
  await close(await logits(cascade.weights(state)), await logits(merged));
});

Deno.test("on DoRA the slow weights move by their share towards the merged fast ones", async () => {
  const slowRate = 0.4;
  const cascade = make({ dora: true, slowRate });
  let state = cascade.init(base, keyed(0)), slow = W0;
  for (let t = 0; t < 3; t++) {
    const start = cascade.params(state, null);
    await close(await logits(start), await logits(cascade.weights(state)));
    const [m, rest] = tree.partition(trained(start), "**.magnitude");
    const model = tree.merge(tree.map((x) => x.mul(1.2), m), rest);
    const fast = watched(mergeAdapters(model));
    slow = slow.mul(1 - slowRate).add(fast.mul(slowRate));
    state = cascade.next(state, model, keyed(t + 1));
    await close(watched(cascade.weights(state)), slow);
    await close(
      await logits(cascade.adapter(state)),
      await logits(cascade.weights(state)),
    );
  }
});

Deno.test("copies of whole modules go on as they were trained, and stand in the slow weights", async () => {
  const cascade = make({ modulesToSave: "**.norm" });
  const start = cascade.params(cascade.init(base, keyed(0)), null);
  const [own, rest] = tree.partition(start, "**.norm.lora.weight");
  const model = tree.merge(tree.map((x) => x.mul(3), own), rest);
  const state = cascade.next(cascade.init(base, keyed(0)), model, keyed(1));
  const expected = await base.model.norm.weight.mul(3).data();
  await close(cascade.weights(state).model.norm.weight, expected);
  const next = tree.leaves(cascade.params(state, null))
    .find(({ path }) => path === "model.norm.lora.weight");
  await close(next!.leaf, expected);
});

Deno.test("adapters of slices make a cascade as well", async () => {
  const fused = {
    c_attn: { weight: random.normal(keyed(1), [4, 6]), bias: null },
  };
  for (const dora of [false, true]) {
    const cascade = lorasc({
      targets: "c_attn",
      parts: { c_attn: [true, false, true] },
      rank: 1,
      alpha: 2,
      slowRate: 0.5,
      noise: 0,
      dora,
    });
    const start = cascade.init(fused, keyed(0));
    const tuned = cascade.params(start, null);
    const [b, rest] = tree.partition(tuned, "**.b");
    const model = tree.merge(tree.map((x) => x.add(1), b), rest);
    const state = cascade.next(start, model, keyed(1));
    await close(
      cascade.weights(state).c_attn.weight,
      fused.c_attn.weight.add(mergeAdapters(model).c_attn.weight).mul(0.5),
    );
  }
});

Deno.test("the slow adapter is cut to a rank, and the residual is what is lost", async () => {
  const cascade = make({ decay: 1 });
  const { state } = stages(cascade, 3);
  const slow = cascade.adapter(state);
  const { tuned, residual } = await combineAdapters(slow, {
    how: "svd",
    rank: 2,
  });
  let lost = 0, all = 0;
  const [full, small] = [slow, tuned].map((model) => model.model.layers);
  for (const [i, layer] of full!.entries()) {
    for (const name of ["q_proj", "v_proj"] as const) {
      const S = layer.self_attn[name].lora!;
      const k = small![i]!.self_attn[name].lora!;
      assertEquals(k.a.shape, [2, 8]);
      const dense = S.b.matmul(S.a).mul(S.scale);
      const gap = dense.sub(k.b.matmul(k.a).mul(k.scale));
      lost += await gap.square().sum().item();
      all += await dense.square().sum().item();
    }
  }
  assert(Math.abs(residual - Math.sqrt(lost / all)) < 1e-9, `${residual}`);
  assert(residual > 0.01 && residual < 1);
});

Deno.test("a stage starts from the slow weights, with a new adapter that changes nothing yet", async () => {
  const cascade = make();
  const { state } = stages(cascade, 2);
  const start = cascade.params(state, null);
  assertEquals(await logits(start), await logits(cascade.weights(state)));
  const first = cascade.params(cascade.init(base, keyed(0)), null);
  assertEquals(await logits(first), await logits(base));
  const a = (t: LlamaParams) =>
    t.model.layers[0]!.self_attn.q_proj.lora!.a.data();
  assert((await a(start)).some((x, i) => x !== i), "a is drawn");
  assert(String(await a(start)) !== String(await a(first)), "and anew");
});

Deno.test("noise is uniform within ±λ/2 deviations, in adapted matrices alone, the same for a key", async () => {
  const cascade = make({ noise: 0.3 });
  const state = cascade.init(base, keyed(0));
  const noisy = cascade.params(state, keyed(5));
  const E = await watched(noisy).sub(W0).data();
  const deviation = await W0.variance().sqrt().item();
  const most = Math.max(...E.map(Math.abs));
  assert(most <= 0.15 * deviation && most > 0.12 * deviation);
  const again = cascade.params(state, keyed(5));
  assertEquals(await watched(again).data(), await watched(noisy).data());
  const other = cascade.params(state, keyed(6));
  assert(
    String(await watched(other).data()) !== String(await watched(noisy).data()),
  );
  const names = tree.leaves(base).map(({ path }) => path);
  const now = new Map(tree.leaves(noisy).map(({ path, leaf }) => [path, leaf]));
  const changed = names.filter((path, i) =>
    now.get(path) !== tree.leaves(base)[i]!.leaf
  );
  assertEquals(
    changed,
    names.filter((path) => /[qv]_proj\.weight$/.test(path)),
  );
});

Deno.test("transient noise is not in the slow weights, persistent noise is", async () => {
  const key = keyed(100);
  for (const persistent of [false, true]) {
    const cascade = make({ noise: 0.3, slowRate: 1, persistent });
    const start = cascade.init(base, keyed(0));
    const tuned = trained(cascade.params(start, key));
    const state = cascade.next(start, tuned, keyed(1));
    const from = persistent ? watched(tuned) : W0;
    await close(watched(cascade.weights(state)), from.add(change(tuned)));
    // The adapter fits the base of the state.
    await close(
      await logits(cascade.adapter(state)),
      await logits(cascade.weights(state)),
    );
    const dropped = dropAdapters(cascade.adapter(state));
    await close(watched(dropped), watched(state.base));
  }
});

Deno.test("what is carried on leaves the function as it is at the boundary", async () => {
  const cascade = make({ carry: "keep", slowRate: 0.4 });
  const start = cascade.init(base, keyed(0));
  const tuned = trained(cascade.params(start, null));
  const state = cascade.next(start, tuned, keyed(1));
  await close(await logits(cascade.params(state, null)), await logits(tuned));
});

Deno.test("one compiled step trains all stages; moments of adapters start anew, their rate rises again", async () => {
  await init({ backend: "wasm" });
  try {
    const cascade = make({ noise: 0.15 });
    const optimizer = stagewise((learningRate) => adamw({ learningRate }), {
      learningRate: 1e-3,
      rewarm: 2,
    });
    type State = ReturnType<typeof optimizer.init>;
    const input = tensor(Int32Array.of(1, 2, 3, 4, 10, 0), { shape: [2, 3] });
    let traces = 0;
    using step = jit((t: LlamaParams, s: State, f: LlamaParams) => {
      traces++;
      const { value, grads } = valueAndGrad((t: LlamaParams) =>
        model.apply(tree.merge(t, f), input).square().mean()
      )(t);
      const { updates, state } = optimizer.update(grads, s, t);
      return { t: applyUpdates(t, updates), state, value };
    }, { donate: [0, 1] });
    let state = cascade.init(baseParams(), keyed(0));
    const [first] = tree.partition(state.fast, isAdapter);
    let moments = optimizer.init(first);
    for (let stage = 0; stage < 3; stage++) {
      const tuned = cascade.params(state, keyed(stage + 50));
      const [start, frozen] = tree.partition(tuned, isAdapter);
      let t = tree.map((x) => x.add(0), start); // a copy to donate
      moments = optimizer.restart(moments, t);
      const losses: number[] = [];
      for (let n = 0; n < 3; n++) {
        const out: { t: LlamaParams; state: State; value: Tensor } = step(
          t,
          moments,
          frozen,
        );
        losses.push(await out.value.item());
        t = out.t;
        moments = out.state;
      }
      assertEquals(losses[1], losses[0], "the first rate of a stage is 0");
      assert(losses[2]! < losses[1]!, String(losses));
      state = cascade.next(state, tree.merge(t, frozen), keyed(stage + 1));
    }
    assertEquals(await moments.count.item(), 9);
    assertEquals(await moments.adapters.count.item(), 3);
    assertEquals(traces, 1);
  } finally {
    await init({ backend: "reference", precision: "f64" });
  }
});

Deno.test("settings out of range are errors", () => {
  const rows: [Partial<LorascOptions>, string][] = [
    [{ slowRate: 0 }, "slowRate 0: it must be above 0 and at most 1"],
    [{ slowRate: 1.5 }, "slowRate 1.5: it must be above 0 and at most 1"],
    [{ decay: -1 }, "decay -1: it must be from 0 to 1"],
    [{ noise: -0.1 }, "noise -0.1: it must be at least 0"],
    [
      { carry: "some" as "keep" },
      'carry "some": there are "drop" and "keep"',
    ],
    [
      { dora: true, decay: 0.5 },
      'decay 0.5 and carry "drop" on DoRA: its changes are no sums; use decay 1 and carry "drop"',
    ],
  ];
  for (const [changes, rule] of rows) {
    assertThrows(
      () => make(changes),
      RangeError,
      `Cannot make a cascade with ${rule}`,
    );
  }
  const small = quantize(baseParams(), { kind: "int8", targets: "q_proj" });
  assertThrows(
    () => make().init(small, keyed(0)),
    TreeError,
    "Cannot make a cascade on model.layers.0.self_attn.q_proj: its weight is int8[8, 8], which takes no change; use dequantize first",
  );
  const cascade = make();
  assertThrows(
    () => cascade.adapter(cascade.init(base, keyed(0))),
    TreeError,
    "Cannot give the slow adapter: no stage is done; use next",
  );
  assertThrows(
    () => cascade.next(cascade.init(base, keyed(0)), base, keyed(1)),
    TreeError,
    "Cannot go on with a cascade: no layer of the tree has an adapter",
  );
});
