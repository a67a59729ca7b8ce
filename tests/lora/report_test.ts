import { assertEquals, assertRejects } from "@std/assert";
import { init, random, TreeError, zeros } from "../../core/mod.ts";
import { lora, report, scaleAdapters, stackAdapters } from "../../lora/mod.ts";
import { adapt, baseParams, gpt } from "./support.ts";

await init({ backend: "reference" });

Deno.test("a report counts by target, and shows the scale in force", async () => {
  const { rows, layers, parameters, modelParameters, percent } = await report(
    scaleAdapters(adapt(baseParams()), 0.5),
  );
  assertEquals(
    modelParameters,
    11 * 8 + 2 * (2 * 64 + 2 * 32 + 3 * 96 + 16) + 8,
  );
  assertEquals(rows, [
    {
      target: "q_proj",
      name: null,
      slices: null,
      layers: 2,
      paths: [0, 1].map((i) => `model.layers.${i}.self_attn.q_proj`),
      weight: [8, 8],
      rank: 3,
      scale: 1,
      alpha: 3,
      parameters: 96,
      percent: 9600 / modelParameters,
    },
    {
      target: "v_proj",
      name: null,
      slices: null,
      layers: 2,
      paths: [0, 1].map((i) => `model.layers.${i}.self_attn.v_proj`),
      weight: [4, 8],
      rank: 3,
      scale: 1,
      alpha: 3,
      parameters: 72,
      percent: 7200 / modelParameters,
    },
  ]);
  assertEquals([layers, parameters], [4, 168]);
  assertEquals(percent, 16800 / modelParameters);
});

Deno.test("the table is aligned, and layers that differ have rows of their own", async () => {
  const layer = (out: number, size: number) => ({ weight: zeros([out, size]) });
  const key = random.key(0);
  const first = lora(
    {
      a: { c_proj: layer(64, 64) },
      b: { c_proj: layer(64, 256) },
      fc: [layer(1500, 64)],
    },
    { targets: "all-linear", rank: 8, alpha: 16, key, rslora: true },
  );
  const found = await report(first);
  assertEquals(Deno.inspect(found), String(found));
  assertEquals(
    String(found),
    `
target  layers  weight      rank  alpha    scale  parameters  of the model
c_proj       1  [64, 64]       8     16  5.65685       1,024        0.88 %
c_proj       1  [64, 256]      8     16  5.65685       2,560        2.20 %
fc           1  [1500, 64]     8     16  5.65685      12,512       10.74 %
total        3                                        16,096       13.82 %
memory: weights 64.4 kB, gradients 64.4 kB, Adam's moments 129 kB
the scales are alpha / √rank`.slice(1),
  );
});

Deno.test("a model without adapters has no report", async () => {
  await assertRejects(
    () => report(baseParams()),
    TreeError,
    "Cannot report on adapters: no layer of the tree has an adapter",
  );
});

Deno.test("slices, names, copies and stacks have rows, and what is likely a mistake is told", async () => {
  const params = gpt.init(random.key(1));
  const key = random.key(0);
  const parts = { c_attn: [true, false, true] };
  const first = lora(params, {
    targets: ["c_attn", "c_fc"],
    rank: 2,
    alpha: 4,
    key,
    name: "tales",
    rankPattern: { "h.0.mlp.c_fc": 1 },
    alphaPattern: { c_fc: 40 },
    modulesToSave: "ln_f",
    parts,
  });
  const both = lora(first, {
    targets: "**.1.attn.c_attn",
    rank: 4,
    alpha: 2,
    key,
    name: "haiku",
  });
  const found = await report(both);
  assertEquals(
    String(found),
    `
target                layers  weight   rank  alpha  scale  parameters  of the model
c_attn[0, 2] (tales)       2  [8, 24]     2      4      2         128        6.48 %
c_fc (tales)               1  [8, 32]     1     40     40          40        2.02 %
c_attn (haiku)             1  [8, 24]     4      2    0.5         128        6.48 %
c_fc (tales)               1  [8, 32]     2     40     20          80        4.05 %
ln_f.weight (tales)        1  [8]                                   8        0.40 %
ln_f.bias (tales)          1  [8]                                   8        0.40 %
total                      5                                      392       19.84 %
memory: weights 1.57 kB, gradients 1.57 kB, Adam's moments 3.14 kB
warning: transformer.h.*.attn.c_attn (haiku) is adapted in 1 of 2 layers: not transformer.h.0.attn.c_attn
warning: c_fc (tales) has ranks 1, 2
warning: c_fc (tales) counts 40 times at rank 1: was alpha meant to be divided by the rank?
warning: c_fc (tales) counts 20 times at rank 2: was alpha meant to be divided by the rank?
warning: c_attn (haiku) is several weights in one, which share rank 4: parts gives each an adapter of its own`
      .slice(1),
  );
  const models = [5, 6].map((seed) =>
    lora(params, { targets: "c_fc", rank: 2, alpha: 4 * seed, key })
  );
  const [row] = (await report(stackAdapters(models))).rows;
  assertEquals([row!.rank, row!.scale, row!.parameters], [2, null, 320]);
});
