import { assertEquals, assertRejects } from "@std/assert";
import { init, random, TreeError, zeros } from "../../core/mod.ts";
import { lora, report, scaleAdapters } from "../../lora/mod.ts";
import { adapt, baseParams } from "./support.ts";

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
