/**
 * Adapters of loralib, in files as `lora_state_dict` gives them.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  FormatError,
  init,
  memory,
  ones,
  random,
  tensor,
  tree,
  TreeError,
  zeros,
} from "../../core/mod.ts";
import {
  isAdapter,
  loadLoralib,
  type LoadLoralibOptions,
  lora,
  mergeAdapters,
} from "../../lora/mod.ts";
import { saveSafetensors } from "../../nn/checkpoint/mod.ts";
import {
  assertNoLeak,
  inFolder,
  isAbsent,
  shared,
} from "../nn/checkpoint/support.ts";
import { typesIn } from "./support.ts";

await init({ backend: "reference" });

const params = {
  model: {
    qkv: { weight: zeros([6, 3]), bias: zeros([6]) },
    tok: { weight: zeros([5, 3]) },
    out: { weight: zeros([2, 3]), bias: zeros([2]) },
  },
};

Deno.test("factors of whole weights and of slices, biases and whole layers come with the file", async () => {
  await inFolder(async (folder) => {
    const file = `${folder}/adapter.safetensors`;
    await saveSafetensors(file, {
      "model.qkv.lora_A": tensor([[1, 0, 0], [0, 1, 0]]),
      "model.qkv.lora_B": tensor([[1], [2], [3], [4]]),
      "model.qkv.bias": ones([6]),
      "model.out.weight": ones([2, 3]),
      "model.out.bias": ones([2]),
    });
    const before = memory().tensors;
    const tuned = await loadLoralib(file, params, {
      rank: 1,
      alpha: 2,
      parts: { qkv: [true, false, true] },
    });
    assertNoLeak(before + 9);
    assertEquals(typesIn(tuned, /lora/), [
      "model.qkv.lora.slices.0.a f32[1, 3]",
      "model.qkv.lora.slices.0.b f32[2, 1]",
      "model.qkv.lora.slices.0.scale f32[]",
      "model.qkv.lora.slices.2.a f32[1, 3]",
      "model.qkv.lora.slices.2.b f32[2, 1]",
      "model.qkv.lora.slices.2.scale f32[]",
      "model.qkv.lora.bias f32[6]",
      "model.out.lora.weight f32[2, 3]",
      "model.out.lora.bias f32[2]",
    ]);
    const { model } = mergeAdapters(tuned);
    assertEquals(await model.qkv.weight.toArray(), [
      [2, 0, 0],
      [4, 0, 0],
      [0, 0, 0],
      [0, 0, 0],
      [0, 6, 0],
      [0, 8, 0],
    ]);
  });
});

Deno.test("what lora makes with slices is what the file gives", async () => {
  const options = { rank: 1, alpha: 2, parts: { qkv: [true, true, false] } };
  const tuned = lora(params, {
    ...options,
    targets: "qkv",
    key: random.key(1),
  });
  const [a, b] = [ones([2, 3]), ones([4, 1])];
  await inFolder(async (folder) => {
    const file = `${folder}/adapter.safetensors`;
    // Without the model's prefix.
    await saveSafetensors(file, { "qkv.lora_A": a, "qkv.lora_B": b });
    const loaded = await loadLoralib(file, params, options);
    assertEquals(typesIn(loaded), typesIn(tuned));
    const named = await loadLoralib(file, params, { ...options, name: "one" });
    assertEquals(
      typesIn(named, /lora/),
      typesIn(tuned, /lora/).map((text) => text.replace("lora.", "lora.one.")),
    );
    assertEquals(
      tree.leaves(tree.partition(named, isAdapter)[0]).length,
      4,
    );
  });
});

Deno.test("what does not fit is listed, and a pickle is refused", async () => {
  const whole = { rank: 2, alpha: 2 };
  const factors = {
    "model.qkv.lora_A": ones([2, 3]),
    "model.qkv.lora_B": ones([6, 2]),
  };
  const cases: [
    Record<string, ReturnType<typeof ones>>,
    LoadLoralibOptions,
    string,
  ][] = [
    [
      { ...factors, "model.key.lora_A": ones([2, 3]) },
      whole,
      "of 2 tensors expected 2 fit: model.qkv.lora_A, model.qkv.lora_B; 1 unused in the file: model.key.lora_A",
    ],
    [
      { "model.qkv.lora_A": ones([2, 3]) },
      whole,
      "of 2 tensors expected 1 fit: model.qkv.lora_A; 1 missing from the file: model.qkv.lora_B",
    ],
    [
      factors,
      { ...whole, parts: { qkv: [true, false, true] } },
      "of 2 tensors expected 0 fit; 2 of another type: model.qkv.lora_A is f32[2, 3], expected f32[4, 3], model.qkv.lora_B is f32[6, 2], expected f32[4, 2]",
    ],
    [
      { "encoder.q.lora_A": ones([2, 3]) },
      whole,
      "it has factors for none of the model's 3 layers, such as model.qkv, model.tok, model.out",
    ],
  ];
  for (const [tensors, options, why] of cases) {
    await inFolder(async (folder) => {
      const file = `${folder}/adapter.safetensors`;
      await saveSafetensors(file, tensors);
      const before = memory().tensors;
      const { message } = await assertRejects(
        () => loadLoralib(file, params, options),
        FormatError,
      );
      assertNoLeak(before);
      assertEquals(message, `Cannot load ${file}: ${why}`);
    });
  }
  await assertRejects(
    () => loadLoralib("lora.bin", params, whole),
    FormatError,
    "Cannot read lora.bin: it is a pickle, which can run code; convert it in Python by " +
      'safetensors.torch.save_file(torch.load(file, weights_only=True), "adapter.safetensors")',
  );
  await assertRejects(
    () => loadLoralib("x.safetensors", params, { rank: 0, alpha: 1 }),
    RangeError,
    "Cannot load an adapter of rank 0 and alpha 1: the rank must be a positive integer, and alpha a number",
  );
  await inFolder(async (folder) => {
    const file = `${folder}/adapter.safetensors`;
    await saveSafetensors(file, factors);
    const tuned = await loadLoralib(file, params, whole);
    await assertRejects(
      () => loadLoralib(file, tuned, whole),
      TreeError,
      "Cannot adapt model.qkv: it has an adapter already",
    );
  });
});

const real = "data/adapters/roberta-base-lora-mnli/roberta_base_lora_mnli.bin";
Deno.test({
  name: "the authors' file of RoBERTa is a pickle, and refused",
  ignore: isAbsent(real),
  fn: async () => {
    const { message } = await assertRejects(
      () => loadLoralib(shared(real), params, { rank: 8, alpha: 16 }),
      FormatError,
    );
    assert(message.includes("roberta_base_lora_mnli.bin: it is a pickle"));
  },
});
