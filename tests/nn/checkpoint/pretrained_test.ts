import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  FormatError,
  init,
  memory,
  random,
  scope,
  type Tensor,
  tensor,
  tree,
  TreeError,
  zeros,
} from "../../../core/mod.ts";
import {
  fromPretrained,
  loadSafetensors,
  savePretrained,
  saveSafetensors,
} from "../../../nn/checkpoint/mod.ts";
import { llama } from "../../../nn/models/mod.ts";
import {
  assertNoLeak,
  bytesOf,
  dispose,
  inFolder,
  isAbsent,
  namesIn,
  shared,
} from "./support.ts";

await init({ backend: "reference" });

const config = {
  architectures: ["LlamaForCausalLM"],
  vocab_size: 7,
  hidden_size: 4,
  intermediate_size: 6,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  tie_word_embeddings: true,
};

/** Tensors of a small model by name. */
function weights(): Record<string, Tensor> {
  const params = scope(() => llama(config).init(random.key(1)));
  return Object.fromEntries(
    tree.leaves(params).map(({ path, leaf }) => [path, leaf]),
  );
}

/** A folder with a config and these tensors. */
async function writeModel(
  folder: string,
  tensors: Record<string, Tensor>,
): Promise<void> {
  await Deno.writeTextFile(`${folder}/config.json`, JSON.stringify(config));
  await saveSafetensors(`${folder}/model.safetensors`, tensors);
}

/** The message with which a folder is refused. */
async function refusal(folder: string): Promise<string> {
  const before = memory().tensors;
  const error = await assertRejects(() => fromPretrained(folder), FormatError);
  assertNoLeak(before);
  return error.message;
}

Deno.test("a saved model comes back bit for bit, and replaces an older one", async () => {
  await inFolder(async (folder) => {
    const target = `${folder}/new/model`;
    const model = llama(config);
    for (const seed of [1, 2]) {
      const params = model.init(random.key(seed));
      await savePretrained(target, { params, config });
      assertEquals(namesIn(target), ["config.json", "model.safetensors"]);
      const loaded = await fromPretrained(new URL(`file://${target}`));
      assertEquals(loaded.config, config);
      assertEquals(loaded.tokenizer, null);
      const [expected, found] = [params, loaded.params].map(tree.leaves);
      assertEquals(
        found!.map(({ path }) => path),
        expected!.map(({ path }) => path),
      );
      for (const [i, { leaf }] of found!.entries()) {
        assertEquals(await bytesOf(leaf), await bytesOf(expected![i]!.leaf));
      }
    }
  });
});

Deno.test("names without the model's prefix load too", async () => {
  await inFolder(async (folder) => {
    const bare = Object.entries(weights()).map(([name, x]) =>
      [name.replace(/^model\./, ""), x] as const
    );
    await writeModel(folder, Object.fromEntries(bare));
    const { params, model } = await fromPretrained(folder);
    assertEquals(
      tree.leaves(params).map(({ path }) => path),
      Object.keys(model.shapes),
    );
  });
});

Deno.test("masks, positions and the copy of a tied head are no parameters", async () => {
  await inFolder(async (folder) => {
    const before = memory().tensors;
    const tensors = {
      ...weights(),
      "lm_head.weight": zeros([7, 4]),
      "model.layers.0.self_attn.rotary_emb.inv_freq": zeros([1]),
    };
    await writeModel(folder, tensors);
    dispose(tensors);
    const { params } = await fromPretrained(folder);
    dispose(params);
    assertNoLeak(before);
  });
});

Deno.test("tensors that are missing, unused or of another type are listed, and nothing is loaded", async () => {
  await inFolder(async (folder) => {
    const tensors = weights();
    const { "model.norm.weight": norm, ...rest } = tensors;
    await writeModel(folder, {
      ...rest,
      "model.layers.0.mlp.up_proj.weight": zeros([4, 6]),
      "model.layers.0.mlp.down_proj.weight": zeros([4, 6], { dtype: "i32" }),
      "model.other.weight": norm!,
    });
    assertEquals(
      await refusal(folder),
      `Cannot load ${folder}/model.safetensors: of 11 tensors expected 8 fit` +
        "; 1 missing from the file: model.norm.weight" +
        "; 1 unused in the file: model.other.weight" +
        "; 2 of another type: model.layers.0.mlp.up_proj.weight is f32[4, 6], expected f32[6, 4]" +
        ", model.layers.0.mlp.down_proj.weight is i32[4, 6], expected f32[4, 6]",
    );
    await writeModel(folder, { ...tensors, "norm.weight": zeros([4]) });
    assertEquals(
      await refusal(folder),
      `Cannot load ${folder}/model.safetensors: both model.norm.weight and norm.weight are model.norm.weight`,
    );
    const many = Array.from({ length: 10 }, (_, i) => [`x${i}`, zeros([1])]);
    await writeModel(folder, { ...tensors, ...Object.fromEntries(many) });
    const message = await refusal(folder);
    assert(
      message.endsWith(
        "10 unused in the file: x0, x1, x2, x3, x4, x5, x6, x7, and 2 more",
      ),
    );
  });
});

Deno.test("what is missing from a folder is named, with what is expected", async () => {
  await inFolder(async (folder) => {
    const at = `Cannot load a model from ${folder}`;
    const files = "config.json and model.safetensors";
    assertEquals(
      await refusal("gpt2"),
      `Cannot load a model from gpt2: there is no such folder; give one with ${files}, since models of the Hugging Face Hub are not fetched yet`,
    );
    assertEquals(
      await refusal(folder),
      `${at}: it has no config.json; expected ${files}`,
    );
    await Deno.writeTextFile(`${folder}/config.json`, JSON.stringify(config));
    assertEquals(
      await refusal(`${folder}/config.json`),
      `Cannot load a model from ${folder}/config.json: it is no folder; give one with ${files}`,
    );
    assertEquals(
      await refusal(folder),
      `${at}: it has neither model.safetensors nor model.safetensors.index.json`,
    );
    await Deno.writeTextFile(`${folder}/pytorch_model.bin`, "");
    assertEquals(
      await refusal(folder),
      `${at}: pytorch_model.bin is a pickle, which can run code; convert it in Python by ` +
        "model.save_pretrained(folder, safe_serialization=True)",
    );
    await Deno.writeTextFile(`${folder}/config.json`, "{");
    assertEquals(
      await refusal(folder),
      `Cannot read ${folder}/config.json: it is not JSON`,
    );
    await writeModel(folder, weights());
    await assertRejects(
      () => fromPretrained(folder, { tokenizer: true }),
      FormatError,
      `Cannot read ${folder}/tokenizer.json: there is no such file`,
    );
  });
});

Deno.test("shards are read as one file", async () => {
  await inFolder(async (folder) => {
    const entries = Object.entries(weights());
    const names = ["a.safetensors", "b.safetensors"];
    const shardOf = (i: number) => names[i % 2]!;
    await Deno.writeTextFile(`${folder}/config.json`, JSON.stringify(config));
    for (const name of names) {
      const own = entries.filter((_, i) => shardOf(i) === name);
      await saveSafetensors(`${folder}/${name}`, Object.fromEntries(own));
    }
    const index = `${folder}/model.safetensors.index.json`;
    const writeIndex = (map: unknown) =>
      Deno.writeTextFile(index, JSON.stringify({ weight_map: map }));
    await writeIndex(
      Object.fromEntries(entries.map(([name], i) => [name, shardOf(i)])),
    );
    const { params } = await fromPretrained(folder);
    assertEquals(
      tree.leaves(params).map(({ path }) => path),
      entries.map(([name]) => name),
    );
    for (const shard of ["../a.safetensors", "/etc/passwd", "x\\y", ".."]) {
      await writeIndex({ a: shard });
      assertEquals(
        await refusal(folder),
        `Cannot read ${index}: the shard ${
          JSON.stringify(shard)
        } is no plain file name`,
      );
    }
    await writeIndex(["a.safetensors"]);
    assertEquals(
      await refusal(folder),
      `Cannot read ${index}: its weight_map does not map names to files`,
    );
    await writeIndex({ a: "a.safetensors", b: "none.safetensors" });
    assertEquals(
      await refusal(folder),
      `Cannot read ${folder}/none.safetensors: there is no such file`,
    );
    await Deno.copyFile(`${folder}/a.safetensors`, `${folder}/b.safetensors`);
    await writeIndex({ a: "a.safetensors", b: "b.safetensors" });
    assertEquals(
      await refusal(folder),
      `Cannot read ${index}: two shards hold the tensor "model.embed_tokens.weight"`,
    );
  });
});

Deno.test("a model with adapters is not saved, and a failed save changes nothing", async () => {
  await inFolder(async (folder) => {
    const params = { weight: tensor([1]), lora: { a: tensor([2]) } };
    await assertRejects(
      () => savePretrained(folder, { params, config }),
      TreeError,
      "Cannot save a model with adapters, as at lora.a: use mergeAdapters, or savePeft for the adapters alone",
    );
    await savePretrained(folder, { params: { a: tensor([1]) }, config });
    const gone = tensor([2]);
    gone.dispose();
    await assertRejects(() =>
      savePretrained(folder, { params: { a: gone }, config: {} })
    );
    assertEquals(namesIn(folder), ["config.json", "model.safetensors"]);
    const kept = await loadSafetensors(`${folder}/model.safetensors`);
    assertEquals(await kept.a!.toArray(), [1]);
    await assertRejects(
      () => savePretrained(folder, { params, config, tokenizerFiles: folder }),
      TreeError,
    );
    await assertRejects(
      () =>
        savePretrained(folder, {
          params: {},
          config,
          tokenizerFiles: folder,
        }),
      FormatError,
      `Cannot copy a tokenizer from ${folder}: it has none of tokenizer.json and tokenizer_config.json`,
    );
  });
});

const stories = "data/stories260K/hf-converted";
Deno.test({
  name:
    "stories260K loads with its tokenizer, and is saved again byte for byte but for the order of tensors",
  ignore: isAbsent(stories),
  fn: async () => {
    const source = shared(stories);
    const { model, params, tokenizer, config } = await fromPretrained(source, {
      tokenizer: true,
    });
    assertEquals(tree.count(params), 264128 - 512 * 8);
    assertEquals(model.config.vocab_size, tokenizer.vocabSize);
    await inFolder(async (folder) => {
      await savePretrained(folder, { params, config, tokenizerFiles: source });
      assertEquals(namesIn(folder), [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
      ]);
      const again = await fromPretrained(folder, { tokenizer: true });
      assertEquals(again.config, config);
      const leaves = tree.leaves(again.params);
      for (const [i, { path, leaf }] of tree.leaves(params).entries()) {
        assertEquals(leaves[i]!.path, path);
        assertEquals(await bytesOf(leaves[i]!.leaf), await bytesOf(leaf));
      }
    });
  },
});

const tiny = "golden/llama-tiny";
Deno.test({
  name: "a loaded model computes the golden logits",
  ignore: isAbsent(tiny),
  fn: async () => {
    const { model, params } = await fromPretrained(shared(tiny));
    const golden = await loadSafetensors(
      shared(`${tiny}/expected.safetensors`),
    );
    const inputs = JSON.parse(
      await Deno.readTextFile(shared(`${tiny}/inputs.json`)),
    );
    const [ids, mask] = [inputs.input_ids, inputs.attention_mask].map((rows) =>
      tensor(rows, { dtype: "i32" })
    );
    const logits = await model.apply(params, ids!, { mask: mask! }).data();
    const expected = await golden.logits!.data();
    const largest = Math.max(...expected.map(Math.abs));
    const vocabulary = golden.logits!.shape[2]!;
    const real = await mask!.data();
    let worst = 0;
    for (let i = 0; i < expected.length; i++) {
      if (real[Math.floor(i / vocabulary)] === 0) continue;
      worst = Math.max(worst, Math.abs(logits[i]! - expected[i]!));
    }
    assert(worst <= 1e-5 * (1e-3 + largest), `off by ${worst} of ${largest}`);
  },
});
