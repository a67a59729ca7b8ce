/**
 * What holds of adapters of every variant, and of slices, biases and layers that are trained whole.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertNotEquals,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { jit, random, type Tensor, tree, valueAndGrad, zeros } from "cotan";
import {
  dropAdapters,
  isAdapter,
  lora,
  type LoraOptions,
  mergeAdapters,
  verifyMerge,
  withDropout,
} from "cotan/lora";
import { linear, type Lora } from "cotan/nn";
import { eachBackend, inFloat64 } from "../support/backends.ts";
import {
  adaptGpt,
  distance,
  gpt,
  type GptParams,
  gptParams,
  moved,
  outputs,
  queryAndValue,
  someIds,
  typesIn,
} from "./support.ts";

/** Ways to adapt that change nothing at the start. */
const variants: Record<string, Partial<LoraOptions>> = {
  plain: {},
  "all layers at an odd scale": { targets: "all-linear", rank: 3, alpha: 0.7 },
  slices: { parts: queryAndValue },
  rsLoRA: { rslora: true, init: "gaussian" },
  embeddings: { targets: ["wpe", "c_fc"] },
  DoRA: { dora: true },
  "DoRA of slices": { dora: true, parts: queryAndValue },
  dropout: { dropout: 0.4 },
  biases: { bias: "all" },
  "biases of targets": { bias: "lora_only", parts: queryAndValue },
  "whole layers": { modulesToSave: ["ln_f", "wpe", "mlp.c_fc"] },
  "one with a name": { name: "tales", bias: "all", parts: queryAndValue },
};

eachBackend(
  "an adapter changes no bit at the start, of whatever variant",
  async (_, t) => {
    const params = gptParams();
    const before = await outputs(gpt, params);
    using run = jit((p: GptParams, ids: Tensor) => gpt.apply(p, ids));
    for (const [name, changes] of Object.entries(variants)) {
      await t.step(name, async () => {
        const tuned = adaptGpt(params, changes);
        assertEquals(await outputs(gpt, tuned), before);
        const compiled = [...await run(tuned, someIds()).data()];
        const expected = [...await run(params, someIds()).data()];
        // A program may sum the squares of DoRA's rows in another order than what made its magnitudes.
        if (!changes.dora) assertEquals(compiled, expected);
        else assert(distance(compiled, expected) < 1e-6);
      });
    }
  },
);

inFloat64(
  "merged weights compute what the adapter does, and dropping it gives the base, of whatever variant",
  async (t) => {
    const params = gptParams();
    const before = await outputs(gpt, params);
    for (const [name, changes] of Object.entries(variants)) {
      await t.step(name, async () => {
        const tuned = moved(adaptGpt(params, changes));
        const after = await outputs(gpt, tuned);
        assert(distance(before, after) > 1e-3, "the adapter does nothing");
        const merged = mergeAdapters(tuned);
        assert(distance(after, await outputs(gpt, merged)) < 1e-12);
        assertEquals(
          tree.leaves(merged).map(({ path }) => path),
          tree.leaves(params).map(({ path }) => path),
        );
        assertEquals(dropAdapters(tuned), params);
        const ids = someIds();
        const { largest, relative } = await verifyMerge(
          (p) => gpt.apply(p, ids),
          tuned,
        );
        assert(relative < 1e-12 && largest >= relative * 1e-3);
      });
    }
  },
);

inFloat64(
  "slices have adapters of their own, as leaves of a list",
  async () => {
    const tuned = adaptGpt(gptParams(), { parts: queryAndValue, bias: "none" });
    assertEquals(typesIn(tuned, /h\.0.*lora/), [
      "transformer.h.0.attn.c_attn.lora.0.a f32[2, 8]",
      "transformer.h.0.attn.c_attn.lora.0.b f32[8, 2]",
      "transformer.h.0.attn.c_attn.lora.0.scale f32[]",
      "transformer.h.0.attn.c_attn.lora.2.a f32[2, 8]",
      "transformer.h.0.attn.c_attn.lora.2.b f32[8, 2]",
      "transformer.h.0.attn.c_attn.lora.2.scale f32[]",
    ]);
    const { lora: own } = tuned.transformer.h[0]!.attn.c_attn;
    const [first, middle, last] = own as [Lora, null, Lora];
    assertEquals(middle, null);
    assertEquals(await first.scale.item(), 1.5);
    assertNotEquals(await first.a.data(), await last.a.data());
  },
);

inFloat64("slices are adapters of the separate matrices", async () => {
  const [weight, bias, x] = [[6, 4], [6], [5, 4]].map((shape, i) =>
    random.normal(random.key(i), shape)
  ) as [Tensor, Tensor, Tensor];
  const fused = moved(lora({ qkv: { weight, bias } }, {
    targets: "qkv",
    rank: 2,
    alpha: 3,
    key: random.key(9),
    parts: { qkv: [false, true, true] },
  })).qkv as { weight: Tensor; bias: Tensor; lora: (Lora | null)[] };
  const y = await linear(fused, x).data();
  const parts = await Promise.all([0, 1, 2].map(async (i) => {
    const range = [[2 * i, 2 * i + 2] as const];
    const own = { weight: weight.slice(range), bias: bias.slice(range) };
    const lora = fused.lora[i];
    return await linear(lora ? { ...own, lora } : own, x).data();
  }));
  const expected = [0, 1, 2, 3, 4].flatMap((row) =>
    parts.flatMap((part) => [...part.slice(2 * row, 2 * row + 2)])
  );
  assert(distance(y, expected) < 1e-14);
});

inFloat64(
  "the trainable half is factors, magnitudes and copies, and training leaves the base as it is",
  async () => {
    const params = gptParams();
    const before = await outputs(gpt, params);
    const tuned = adaptGpt(params, {
      parts: queryAndValue,
      dora: true,
      dropout: 0.1,
      bias: "all",
      modulesToSave: "ln_f",
    });
    const [trainable, frozen] = tree.partition(tuned, isAdapter);
    assertEquals(typesIn(trainable, /h\.0|ln_f/), [
      "transformer.h.0.ln_1.lora.bias f32[8]",
      ...[0, 2].flatMap((i) => {
        const at = `transformer.h.0.attn.c_attn.lora.slices.${i}`;
        return [
          `${at}.a f32[2, 8]`,
          `${at}.b f32[8, 2]`,
          `${at}.magnitude f32[8]`,
        ];
      }),
      "transformer.h.0.attn.c_attn.lora.bias f32[24]",
      "transformer.h.0.attn.c_proj.lora.bias f32[8]",
      "transformer.h.0.ln_2.lora.bias f32[8]",
      "transformer.h.0.mlp.c_fc.lora.bias f32[32]",
      "transformer.h.0.mlp.c_proj.lora.bias f32[8]",
      "transformer.ln_f.lora.weight f32[8]",
      "transformer.ln_f.lora.bias f32[8]",
    ]);
    using step = jit((t: GptParams, f: GptParams, ids: Tensor, key: Tensor) => {
      const loss = (t: GptParams) =>
        gpt.apply(withDropout(tree.merge(t, f), key), ids).square().mean();
      const { value, grads } = valueAndGrad(loss)(t);
      return { t: tree.map((x, g) => x.sub(g!.mul(0.01)), t, grads), value };
    }, { donate: [0] });
    let current = trainable;
    const losses = [];
    for (let i = 0; i < 5; i++) {
      const out = step(current, frozen, someIds(), random.key(i));
      current = out.t;
      losses.push(await out.value.item());
    }
    assert(losses.at(-1)! < 0.9 * losses[0]!, String(losses));
    assertEquals(await outputs(gpt, params), before);
    assertEquals(dropAdapters(tree.merge(current, frozen)), params);
  },
);

inFloat64(
  "biases are trained of all layers or of the targets, and layers that are trained whole are no targets",
  () => {
    const params = gptParams();
    const copies = (changes: Partial<LoraOptions>) =>
      typesIn(adaptGpt(params, changes), /h\.0.*lora\.(a|weight|bias) /)
        .map((text) => text.replace(/transformer\.h\.0\.| .*/g, ""));
    assertEquals(copies({ bias: "lora_only" }), [
      "attn.c_attn.lora.a",
      "attn.c_attn.lora.bias",
    ]);
    assertEquals(copies({ bias: "all" }), [
      "ln_1.lora.bias",
      "attn.c_attn.lora.a",
      "attn.c_attn.lora.bias",
      "attn.c_proj.lora.bias",
      "ln_2.lora.bias",
      "mlp.c_fc.lora.bias",
      "mlp.c_proj.lora.bias",
    ]);
    assertEquals(
      copies({ targets: ["c_attn", "c_fc"], modulesToSave: "mlp" }),
      [
        "attn.c_attn.lora.a",
        "mlp.c_fc.lora.weight",
        "mlp.c_fc.lora.bias",
        "mlp.c_proj.lora.weight",
        "mlp.c_proj.lora.bias",
      ],
    );
    assertThrows(
      () => adaptGpt(params, { bias: "some" as "all" }),
      RangeError,
      'Cannot adapt with bias "some": there are "none", "all" and "lora_only"',
    );
  },
);

inFloat64(
  "an embedding's adapter starts with a at zero and b normal",
  async () => {
    const { lora: own } = lora({ wte: { weight: zeros([300, 50]) } }, {
      targets: "wte",
      rank: 20,
      alpha: 1,
      key: random.key(0),
      dropout: 0.5,
    }).wte as unknown as { lora: Lora };
    assertEquals(Object.keys(own).sort(), ["a", "b", "scale"]);
    assertEquals(await own.a.abs().max().item(), 0);
    const deviation = await own.b.square().mean().sqrt().item();
    assert(Math.abs(deviation - 1) < 0.05, String(deviation));
  },
);
inFloat64("what is trained whole stands in, and is a copy", async () => {
  const params = gptParams();
  const tuned = adaptGpt(params, { modulesToSave: ["ln_f"] });
  const { weight, lora: own } = tuned.transformer.ln_f;
  const copy = (own as { weight: Tensor }).weight;
  assertStrictEquals(weight, params.transformer.ln_f.weight);
  assert(copy !== weight);
  assertEquals(await copy.data(), await weight.data());
  const raised = tree.map((x) => x.add(1), own as { weight: Tensor });
  const changed = {
    ...tuned,
    transformer: {
      ...tuned.transformer,
      ln_f: { ...tuned.transformer.ln_f, lora: raised },
    },
  };
  const direct = {
    ...params,
    transformer: {
      ...params.transformer,
      ln_f: tree.map((x) => x.add(1), params.transformer.ln_f),
    },
  };
  assert(
    distance(await outputs(gpt, changed), await outputs(gpt, direct)) < 1e-14,
  );
});
