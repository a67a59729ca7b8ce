import {
  assert,
  assertEquals,
  assertNotEquals,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import {
  grad,
  jit,
  random,
  type Tensor,
  tensor,
  tree,
  TreeError,
  valueAndGrad,
  zeros,
} from "cotan";
import {
  type AdapterInit,
  dropAdapters,
  fromPissa,
  isAdapter,
  lora,
  type LoraOptions,
  mergeAdapters,
  verifyMerge,
  withDropout,
} from "cotan/lora";
import { conv1D, linear, type Lora } from "cotan/nn";
import { eachBackend, inFloat64 } from "../support/backends.ts";
import { distance, gpt, moved, outputs, someIds, typesIn } from "./support.ts";

type Params = ReturnType<typeof gpt.init>;

function base(): Params {
  return gpt.init(random.key(1));
}

function adapt(params: Params, changes: Partial<LoraOptions> = {}): Params {
  const key = random.key(5);
  return lora(params, {
    targets: "c_attn",
    rank: 2,
    alpha: 3,
    key,
    ...changes,
  });
}

const q_v = { c_attn: [true, false, true] };

/** Ways to adapt that change nothing at the start. */
const variants: Record<string, Partial<LoraOptions>> = {
  plain: {},
  "all layers at an odd scale": { targets: "all-linear", rank: 3, alpha: 0.7 },
  slices: { parts: q_v },
  rsLoRA: { rslora: true, init: "gaussian" },
  embeddings: { targets: ["wpe", "c_fc"] },
  DoRA: { dora: true },
  "DoRA of slices": { dora: true, parts: q_v },
  dropout: { dropout: 0.4 },
  biases: { bias: "all" },
  "biases of targets": { bias: "lora_only", parts: q_v },
  "whole layers": { modulesToSave: ["ln_f", "wpe", "mlp.c_fc"] },
  "one with a name": { name: "tales", bias: "all", parts: q_v },
};

eachBackend(
  "an adapter changes no bit at the start, of whatever variant",
  async (_, t) => {
    const params = base();
    const before = await outputs(gpt, params);
    using run = jit((p: Params, ids: Tensor) => gpt.apply(p, ids));
    for (const [name, changes] of Object.entries(variants)) {
      await t.step(name, async () => {
        const tuned = adapt(params, changes);
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
    const params = base();
    const before = await outputs(gpt, params);
    for (const [name, changes] of Object.entries(variants)) {
      await t.step(name, async () => {
        const tuned = moved(adapt(params, changes));
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
    const tuned = adapt(base(), { parts: q_v, bias: "none" });
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
    const params = base();
    const before = await outputs(gpt, params);
    const tuned = adapt(params, {
      parts: q_v,
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
    using step = jit((t: Params, f: Params, ids: Tensor, key: Tensor) => {
      const loss = (t: Params) =>
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
    const params = base();
    const copies = (changes: Partial<LoraOptions>) =>
      typesIn(adapt(params, changes), /h\.0.*lora\.(a|weight|bias) /)
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
      () => adapt(params, { bias: "some" as "all" }),
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

/** DoRA by its definition: m / ‖V‖ · V for V = W + s b a, the norm held fixed. */
function denseDora(
  { weight, lora }: {
    weight: Tensor;
    lora: Required<Pick<Lora, "a" | "b" | "scale" | "magnitude">>;
  },
  x: Tensor,
): Tensor {
  const v = weight.add(lora.b.matmul(lora.a).mul(lora.scale));
  const length = v.square().sum({ axis: 1, keepDims: true }).sqrt();
  const gain = lora.magnitude.unsqueeze(1).div(length.stopGradient());
  return x.matmul(v.mul(gain).transpose());
}

inFloat64(
  "DoRA is its dense formula, and so are its gradients, in both kinds of layers",
  async () => {
    const draw = (seed: number, shape: number[]) =>
      random.normal(random.key(seed), shape);
    const weight = draw(1, [5, 4]), x = draw(2, [3, 4]), ct = draw(3, [3, 5]);
    const own = {
      a: draw(4, [2, 4]),
      b: draw(5, [5, 2]),
      scale: tensor(0.75),
      magnitude: draw(6, [5]).abs(),
    };
    type P = { weight: Tensor; lora: typeof own; x: Tensor };
    const dense = (p: P) => denseDora(p, p.x).mul(ct).sum();
    const forms = {
      linear: (p: P) => linear(p, p.x).mul(ct).sum(),
      conv1D: (p: P) =>
        conv1D({ ...p, weight: p.weight.transpose() }, p.x).mul(ct).sum(),
    };
    const { scale: _, ...expected } =
      grad(dense)({ weight, lora: own, x }).lora;
    const value = await dense({ weight, lora: own, x }).item();
    const { x: gx, weight: gw } = grad(dense)({ weight, lora: own, x });
    for (const [name, f] of Object.entries(forms)) {
      assert(
        Math.abs(await f({ weight, lora: own, x }).item() / value - 1) < 1e-12,
      );
      const found = grad(f)({ weight, lora: own, x });
      assert(distance(await found.x.data(), await gx.data()) < 1e-12, name);
      const weights = [await found.weight.data(), await gw.data()] as const;
      assert(distance(...weights) < 1e-12, name);
      for (const key of ["a", "b", "magnitude"] as const) {
        const [g, e] = [
          await found.lora[key].data(),
          await expected[key].data(),
        ];
        assert(distance(g, e) < 1e-12, `${name} ${key}`);
      }
    }
  },
);

inFloat64(
  "DoRA's magnitudes start as the lengths of the weight's rows",
  async () => {
    const params = { fc: { weight: random.normal(random.key(1), [5, 4]) } };
    const tuned = lora(params, {
      targets: "fc",
      rank: 2,
      alpha: 4,
      key: random.key(0),
      dora: true,
    }) as unknown as { fc: { lora: { magnitude: Tensor } } };
    const lengths = params.fc.weight.square().sum({ axis: 1 }).sqrt();
    assert(
      distance(await tuned.fc.lora.magnitude.data(), await lengths.data()) <
        1e-14,
    );
  },
);

inFloat64(
  "PiSSA takes the principal part out of the weight, in its singular vectors",
  async () => {
    // W = U diag(9, 4, 1, 0.25) Vᵀ with U and V of a rotation each.
    const orthogonal = async (seed: number, rows: number) => {
      const x = await random.normal(random.key(seed), [rows, 4]).data();
      const columns = [0, 1, 2, 3].map((j) =>
        Array.from({ length: rows }, (_, i) => x[4 * i + j]!)
      );
      columns.forEach((column, j) => {
        for (const other of columns.slice(0, j)) {
          const along = column.reduce((s, v, i) => s + v * other[i]!, 0);
          column.forEach((_, i) => column[i]! -= along * other[i]!);
        }
        const length = Math.hypot(...column);
        column.forEach((_, i) => column[i]! /= length);
      });
      return tensor(columns);
    };
    const [u, v] = [await orthogonal(1, 6), await orthogonal(2, 5)];
    const sizes = tensor([[9], [4], [1], [0.25]]);
    const weight = u.transpose().matmul(v.mul(sizes));
    const near = async (x: Tensor, y: Tensor, within = 1e-10) =>
      assert(distance(await x.data(), await y.data()) < within);
    for (const init of ["pissa", "pissa_niter_20"] as AdapterInit[]) {
      const tuned = lora({ fc: { weight } }, {
        targets: "fc",
        rank: 2,
        alpha: 6,
        key: random.key(3),
        init,
      }).fc as unknown as { weight: Tensor; lora: Lora };
      const { a, b, scale } = tuned.lora;
      // Signs are arbitrary: compare what does not depend on them.
      const top = u.slice([[0, 2]]).transpose()
        .matmul(v.mul(sizes).slice([[0, 2]]));
      await near(b.matmul(a).mul(scale), top);
      await near(a.matmul(a.transpose()), tensor([[3, 0], [0, 4 / 3]]));
      await near(b.transpose().matmul(b), tensor([[3, 0], [0, 4 / 3]]));
      await near(tuned.weight.add(b.matmul(a).mul(scale)), weight, 1e-14);
      const x = random.normal(random.key(8), [3, 5]);
      await near(linear(tuned, x), linear({ weight }, x), 1e-13);
    }
    const rough = lora({ fc: { weight } }, {
      targets: "fc",
      rank: 2,
      alpha: 6,
      key: random.key(3),
      init: "pissa_niter_0",
    });
    await near(mergeAdapters(rough).fc.weight, weight, 1e-14);
    // A weight of zeros has no principal part.
    const none = lora({ fc: { weight: zeros([4, 3]) } }, {
      targets: "fc",
      rank: 2,
      alpha: 6,
      key: random.key(3),
      init: "pissa",
    });
    assertEquals(await mergeAdapters(none).fc.weight.abs().max().item(), 0);
  },
);

inFloat64(
  "PiSSA of Conv1D and of slices leaves the model as it was",
  async () => {
    const params = base();
    const before = await outputs(gpt, params);
    for (const parts of [{}, q_v]) {
      const tuned = adapt(params, { init: "pissa", parts });
      assert(distance(before, await outputs(gpt, tuned)) < 1e-12);
      assert(distance(before, await outputs(gpt, dropAdapters(tuned))) > 1e-2);
    }
    for (
      const [changes, what] of [[{ dora: true }, "for DoRA"], [
        { name: "x" },
        "beside others",
      ]] as const
    ) {
      assertThrows(
        () => adapt(params, { init: "pissa", ...changes }),
        TreeError,
        `Cannot initialise adapters by "pissa" ${what}: it changes the weights that these rest on`,
      );
    }
  },
);

eachBackend(
  "dropout of an adapter's input comes from a key, and without one there is none",
  async () => {
    const params = base();
    const make = (dropout: number) =>
      moved(adapt(params, { dropout, parts: q_v }));
    const [none, some] = [make(0), make(0.5)];
    assertEquals(typesIn(none, /rate/), []);
    const plain = await outputs(gpt, none);
    assertEquals(await outputs(gpt, some), plain);
    const seeded = (seed: number, p = some) =>
      outputs(gpt, withDropout(p, random.key(seed)));
    assertEquals(await seeded(1), await seeded(1));
    assertNotEquals(await seeded(1), await seeded(2));
    assertNotEquals(await seeded(1), plain);
    assertEquals(await seeded(1, none), plain);
    using run = jit((p: Params, key: Tensor) =>
      gpt.apply(withDropout(p, key), someIds())
    );
    const traced = [...await run(some, random.key(1)).data()];
    assert(distance(await seeded(1), traced) < 1e-5);
  },
);

eachBackend("a rate of 0 in the tree changes no bit", async () => {
  const params = base();
  const some = moved(adapt(params, { dropout: 0.5 }));
  const [rates, rest] = tree.partition(some, (path) => path.endsWith("rate"));
  const zero = tree.merge(tree.map(() => tensor(0), rates), rest);
  assertEquals(
    await outputs(gpt, withDropout(zero, random.key(1))),
    await outputs(gpt, zero),
  );
});

inFloat64(
  "dropout keeps the mean, drops the same in both directions, and tells layers apart",
  async () => {
    const weight = zeros([1, 4000]);
    const tuned = lora({ p: { weight }, q: { weight } }, {
      targets: ["p", "q"],
      rank: 1,
      alpha: 1,
      key: random.key(2),
      dropout: 0.25,
    });
    const ones = tree.map(
      (x) => x.mul(0).add(1),
      tree.partition(tuned, isAdapter)[0],
    );
    const set = tree.merge(ones, tree.partition(tuned, isAdapter)[1]);
    const dropped = withDropout(set, random.key(7));
    const x = tensor([Array.from({ length: 4000 }, () => 1)]);
    const mean = await linear(dropped.p, x).item() / 4000;
    assert(Math.abs(mean - 1) < 0.03, String(mean));
    const gradient = async (
      p: { weight: Tensor },
    ) => [...await grad((x: Tensor) => linear(p, x).sum())(x).data()];
    const [p, q] = [await gradient(dropped.p), await gradient(dropped.q)];
    assertNotEquals(p, q);
    const seen = p.map((v) => v === 0 ? 0 : 1);
    for (const v of p) assert(v === 0 || Math.abs(v - 4 / 3) < 1e-12);
    assert(
      Math.abs(seen.reduce<number>((a, b) => a + b, 0) / 4000 - mean * 0.75) <
        1e-9,
    );
  },
);

inFloat64("what is trained whole stands in, and is a copy", async () => {
  const params = base();
  const tuned = adapt(params, { modulesToSave: ["ln_f"] });
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

inFloat64(
  "PiSSA's adapters are ordinary ones of twice the rank of the original weights",
  async () => {
    const params = base();
    for (const parts of [{}, q_v]) {
      const start = adapt(params, { init: "pissa", parts });
      const trained = moved(start);
      const tuned = fromPissa(trained, { start, params });
      assert(
        distance(await outputs(gpt, trained), await outputs(gpt, tuned)) <
          1e-11,
      );
      assertEquals(dropAdapters(tuned), params);
      assertThrows(
        () =>
          fromPissa(trained, {
            start: adapt(params, { targets: "c_fc" }),
            params,
          }),
        TreeError,
        `Cannot take PiSSA apart: the start has no such adapter at transformer.h.0.attn.c_attn.lora${
          "c_attn" in parts ? ".0" : ""
        }`,
      );
    }
  },
);
