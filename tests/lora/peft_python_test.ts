/**
 * PEFT's folders as Python code writes them.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { init, memory, ones, random, tree, zeros } from "../../core/mod.ts";
import { loadPeft, lora, savePeft } from "../../lora/mod.ts";
import { readSafetensors, saveSafetensors } from "../../nn/checkpoint/mod.ts";
import { assertNoLeak, inFolder } from "../nn/checkpoint/support.ts";
import { factors, fault, typesOf, write } from "./peft_support.ts";
import { adapt, baseParams, logits, trained } from "./support.ts";

await init({ backend: "reference" });

const params = baseParams();

Deno.test("names may lack the model's prefix, or have one that the tree lacks", async () => {
  const tuned = trained(adapt(params));
  await inFolder(async (folder) => {
    await savePeft(folder, tuned);
    const path = `${folder}/adapter_model.safetensors`;
    const { tensors } = await readSafetensors(path);
    const rename = (from: string, to: string) =>
      Object.fromEntries(
        Object.entries(tensors).map(([name, x]) => [name.replace(from, to), x]),
      );
    const names = [
      ["base_model.model.model.", "base_model.model."],
      ["base_model.model.", ""],
      ["base_model.model.model.", ""],
      ["base_model.model.", "base_model.model.outer."],
    ] as const;
    for (const [from, to] of names) {
      await saveSafetensors(path, rename(from, to));
      assertEquals(
        await logits(await loadPeft(folder, params)),
        await logits(tuned),
      );
    }
    // Those of a decoder are not taken for an encoder's.
    await saveSafetensors(
      path,
      rename("base_model.model.model.", "base_model.model.decoder."),
    );
    const message = await fault(folder, params);
    assert(message.includes("of 8 tensors expected 0 fit; 8 missing"), message);
  });
});

Deno.test("heads of the task come with the adapter, written down or not", async () => {
  const head = () => ({ weight: zeros([2, 3]), bias: zeros([2]) });
  const model = {
    q: { weight: zeros([3, 3]), bias: null },
    classifier: head(),
  };
  const types = [
    "q.lora.a f32[1, 3]",
    "q.lora.b f32[3, 1]",
    "q.lora.scale f32[]",
    "classifier.lora.weight f32[2, 3]",
    "classifier.lora.bias f32[2]",
  ];
  const tensors = {
    ...factors("q", 3, 3),
    "classifier.weight": ones([2, 3]),
    "classifier.bias": ones([2]),
  };
  const cases = [
    { task_type: "SEQ_CLS" },
    { modules_to_save: ["classifier", "score"] },
  ];
  for (const config of cases) {
    await inFolder(async (folder) => {
      await write(folder, { target_modules: ["q"], ...config }, tensors);
      assertEquals(typesOf(await loadPeft(folder, model)), types);
      // An adapter that was trained without its head has none.
      if (!("task_type" in config)) return;
      await write(
        folder,
        { target_modules: ["q"], ...config },
        factors("q", 3, 3),
      );
      assertEquals(typesOf(await loadPeft(folder, model)), types.slice(0, 3));
    });
  }
});

Deno.test("biases are found under both of PEFT's names", async () => {
  const model = {
    q: { weight: zeros([3, 3]), bias: zeros([3]) },
    norm: { weight: ones([3]), bias: zeros([3]) },
  };
  const config = { target_modules: ["q"], bias: "all" };
  for (const name of ["q.bias", "q.base_layer.bias"]) {
    await inFolder(async (folder) => {
      await write(folder, config, {
        ...factors("q", 3, 3),
        [name]: ones([3]),
        "norm.bias": ones([3]),
      });
      assertEquals(typesOf(await loadPeft(folder, model)).slice(3), [
        "q.lora.bias f32[3]",
        "norm.lora.bias f32[3]",
      ]);
      // The one in the name of the other.
      await write(folder, config, {
        ...factors("q", 3, 3),
        "q.bias": ones([3]),
        "q.base_layer.bias": ones([3]),
        "norm.bias": ones([3]),
      });
      const path = `${folder}/adapter_model.safetensors`;
      assertEquals(
        await fault(folder, model),
        `Cannot load ${path}: it has base_model.model.q.bias twice`,
      );
    });
  }
});

Deno.test("copies of the base's tables are checked, and not kept", async () => {
  const table = params.model.embed_tokens.weight;
  const config = { target_modules: ["embed_tokens"] };
  const tensors = {
    "model.embed_tokens.lora_embedding_A": ones([1, 11]),
    "model.embed_tokens.lora_embedding_B": ones([8, 1]),
    "model.embed_tokens.base_layer.weight": table,
    "lm_head.weight": table,
  };
  await inFolder(async (folder) => {
    await write(folder, config, tensors);
    const before = memory().tensors;
    const tuned = await loadPeft(folder, params);
    assertNoLeak(before + 3);
    assertEquals(typesOf(tuned), [
      "model.embed_tokens.lora.a f32[1, 11]",
      "model.embed_tokens.lora.b f32[8, 1]",
      "model.embed_tokens.lora.scale f32[]",
    ]);
    await write(folder, config, {
      ...tensors,
      "lm_head.weight": ones([11, 8]),
    });
    assertEquals(
      await fault(folder, params),
      `Cannot load an adapter from ${folder}: its base_model.model.lm_head.weight is a table of the base, and differs from the model's; load the base that it has, or save it in Python with save_embedding_layers=False`,
    );
  });
});

Deno.test("a square weight of an unknown name takes factors either way, and embeddings are seen by theirs", async () => {
  await inFolder(async (folder) => {
    await write(folder, { target_modules: ["tok"], fan_in_fan_out: true }, {
      "tok.lora_embedding_A": ones([1, 5]),
      "tok.lora_embedding_B": ones([3, 1]),
    });
    const model = { tok: { weight: zeros([5, 3]) } };
    assertEquals(typesOf(await loadPeft(folder, model)), [
      "tok.lora.a f32[1, 5]",
      "tok.lora.b f32[3, 1]",
      "tok.lora.scale f32[]",
    ]);
  });
  const key = random.key(1);
  const tuned = lora({ w: { weight: zeros([4, 4]) } }, {
    targets: "w",
    rank: 1,
    alpha: 1,
    key,
    fanInFanOut: true,
  });
  await inFolder(async (folder) => {
    await savePeft(folder, tuned);
    assertEquals(
      typesOf(await loadPeft(folder, { w: { weight: zeros([4, 4]) } })),
      typesOf(tuned),
    );
  });
});

Deno.test("targets are a list, an expression or all linear layers, less what is excluded", async () => {
  const head = { lm_head: { weight: zeros([11, 8]) } };
  const untied = { ...params, ...head };
  const linear = ["q_proj", "k_proj", "v_proj", "o_proj"].map((name) =>
    `self_attn.${name}`
  ).concat(["gate_proj", "up_proj", "down_proj"].map((name) => `mlp.${name}`));
  const cases: [Record<string, unknown>, RegExp][] = [
    [{ target_modules: "all-linear" }, /layers/],
    [
      { target_modules: "all-linear", exclude_modules: ["mlp.up_proj"] },
      /layers.*(?<!up_proj)$/,
    ],
    [
      { target_modules: ".*\\.1\\..*_proj", exclude_modules: ".*self_attn.*" },
      /layers\.1\.mlp/,
    ],
    [
      {
        target_modules: linear,
        layers_to_transform: [0],
        layers_pattern: "layers",
      },
      /layers\.0/,
    ],
    [{ target_modules: ["lm_head"] }, /lm_head/],
  ];
  for (const [changes, taken] of cases) {
    const targets = tree.leaves(untied).map(({ path }) =>
      path.replace(/\.weight$/, "")
    ).filter((path) => /_proj$|^lm_head$/.test(path) && taken.test(path));
    const options = { rank: 1, alpha: 1, key: random.key(2) };
    const tuned = lora(untied, { ...options, targets });
    await inFolder(async (folder) => {
      await savePeft(folder, tuned);
      const path = `${folder}/adapter_config.json`;
      const config = JSON.parse(await Deno.readTextFile(path));
      await Deno.writeTextFile(path, JSON.stringify({ ...config, ...changes }));
      assertEquals(typesOf(await loadPeft(folder, untied)), typesOf(tuned));
    });
  }
});
