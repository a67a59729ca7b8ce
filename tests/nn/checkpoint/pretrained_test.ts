import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import {
  DTypeError,
  FormatError,
  init,
  memory,
  random,
  scope,
  tensor,
  tree,
  zeros,
} from "../../../core/mod.ts";
import {
  fromPretrained,
  inspectSafetensors,
  type LoadDType,
  loadSafetensors,
  type Progress,
  savePretrained,
  saveSafetensors,
} from "../../../nn/checkpoint/mod.ts";
import { llama } from "../../../nn/models/mod.ts";
import { config, refusal, weights, writeModel } from "./small_model.ts";
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
    const many = Array.from(
      { length: 10 },
      (_, i) => [`model.x${i}`, zeros([1])],
    );
    await writeModel(folder, { ...tensors, ...Object.fromEntries(many) });
    const message = await refusal(folder);
    assert(
      message.endsWith(
        "10 unused in the file: model.x0, model.x1, model.x2, model.x3, model.x4, model.x5, model.x6, model.x7, and 2 more",
      ),
    );
  });
});

Deno.test("what is missing from a folder is named, with what is expected", async () => {
  await inFolder(async (folder) => {
    const at = `Cannot load a model from ${folder}`;
    const files = "config.json and model.safetensors";
    assertEquals(
      await refusal("./gpt2"),
      `Cannot load a model from ./gpt2: there is no such folder; give one with ${files}, or a model of the Hugging Face Hub as owner/name`,
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

Deno.test("floats become what is asked for, and halves that stay what they are keep their bits", async () => {
  await inFolder(async (folder) => {
    const path = `${folder}/x.safetensors`;
    const halves = tensor(Uint16Array.of(0x3f80, 0xffc1, 1), { dtype: "bf16" });
    await saveSafetensors(path, { halves, floats: tensor([1.5, -2]) });
    const load = async (dtype: LoadDType): Promise<unknown[]> => {
      const { halves, floats } = await loadSafetensors(path, { dtype });
      return [String(halves), String(floats), await halves!.data()];
    };
    const wide = await halves.data();
    const tiny = Float32Array.of(1, NaN, 0);
    assertEquals(await load("f32"), ["f32[3]", "f32[2]", wide]);
    assertEquals(await load("bf16"), ["bf16[3]", "bf16[2]", wide]);
    assertEquals(await load("f16"), ["f16[3]", "f16[2]", tiny]);
    assertEquals(await load("auto"), ["bf16[3]", "f32[2]", wide]);
    const { halves: kept } = await loadSafetensors(path, { dtype: "auto" });
    assertEquals(await kept!.bits(), await halves.bits());
    await assertRejects(
      () => loadSafetensors(path, { dtype: "f8" as "f16" }),
      DTypeError,
      "Cannot load floats as f8: there are f32, f16, bf16 and auto",
    );
  });
});

Deno.test("a model is loaded in halves, and saved as it is", async () => {
  await inFolder(async (folder) => {
    await writeModel(folder, weights());
    const loaded = await fromPretrained(folder, { dtype: "bf16" });
    for (const { leaf } of tree.leaves(loaded.params)) {
      assertEquals(leaf.dtype, "bf16");
    }
    await savePretrained(`${folder}/half`, { params: loaded.params, config });
    const path = `${folder}/half/model.safetensors`;
    const infos = await inspectSafetensors(path);
    assert(Object.values(infos).every(({ dtype }) => dtype === "BF16"));
    const again = await fromPretrained(`${folder}/half`, { dtype: "auto" });
    const found = tree.leaves(again.params);
    for (const [i, { leaf }] of tree.leaves(loaded.params).entries()) {
      assertEquals(await found[i]!.leaf.bits(), await leaf.bits());
    }
  });
});

Deno.test("fields of the config may be replaced", async () => {
  await inFolder(async (folder) => {
    await writeModel(folder, weights());
    const { model, config } = await fromPretrained(folder, {
      config: { rope_theta: 500 },
    });
    assertEquals([model.config.rope_theta, config.rope_theta], [500, 500]);
  });
});

Deno.test("progress counts up to the size of the weights, and an aborted signal ends with its reason", async () => {
  await inFolder(async (folder) => {
    await writeModel(folder, weights());
    const told: Progress[] = [];
    await fromPretrained(folder, { onProgress: (p) => told.push(p) });
    const bytes = 4 * (2 * 4 * 7 / 2 + 4 * 3 + 16 * 2 + 8 * 2 + 24 * 3);
    assertEquals(told.at(-1), {
      phase: "load",
      file: `${folder}/model.safetensors`,
      loaded: bytes,
      total: bytes,
    });
    const before = memory().tensors;
    const stop = new AbortController();
    await assertRejects(
      () =>
        fromPretrained(folder, {
          signal: stop.signal,
          onProgress: ({ loaded }) => loaded > 200 && stop.abort("enough"),
        }).catch((reason) => Promise.reject(new Error(reason))),
      Error,
      "enough",
    );
    assertNoLeak(before);
  });
});

Deno.test("a tokenizer with more ids than the model is refused", async () => {
  await inFolder(async (folder) => {
    await writeModel(folder, weights());
    const vocab = Object.fromEntries(
      Array.from({ length: 8 }, (_, i) => [`w${i}`, i]),
    );
    const writeVocabulary = (vocab: Record<string, number>): Promise<void> =>
      Deno.writeTextFile(
        `${folder}/tokenizer.json`,
        JSON.stringify({
          added_tokens: [],
          normalizer: null,
          pre_tokenizer: { type: "Whitespace" },
          post_processor: null,
          decoder: null,
          model: { type: "WordPiece", unk_token: "w0", vocab },
        }),
      );
    await writeVocabulary(vocab);
    assertEquals(
      await refusal(folder),
      `Cannot use ${folder}/tokenizer.json: it has ids up to 7, and vocab_size is 7; load the model with tokenizer: false`,
    );
    await fromPretrained(folder, { tokenizer: false });
    await writeVocabulary({ w0: 0, w1: 9 });
    assertStringIncludes(await refusal(folder), "it has ids up to 9");
    await writeVocabulary({ w0: 0, w1: 6 });
    const { tokenizer } = await fromPretrained(folder, { tokenizer: true });
    assertEquals(tokenizer.maxId, 6);
  });
});

Deno.test("a head that the file lacks, or has in another shape, is drawn from a key, but only where that is asked for", async () => {
  await inFolder(async (folder) => {
    const before = memory().tensors;
    const untied = { config: { tie_word_embeddings: false } };
    const key = random.key(3);
    const expected = scope(() =>
      llama({ ...config, ...untied.config }).init(key)
    );
    const base = weights();
    for (const head of [{}, { "lm_head.weight": zeros([2, 4]) }]) {
      const tensors = { ...base, ...head, "score.weight": zeros([1]) };
      await writeModel(folder, tensors);
      const message = (await assertRejects(
        () => fromPretrained(folder, untied),
        FormatError,
      )).message;
      assertStringIncludes(message, "of 12 tensors expected 11 fit");
      assertStringIncludes(
        message,
        "; these are heads alone: with newHead, a key, they start anew or are left out",
      );
      const { params } = await fromPretrained(folder, {
        ...untied,
        newHead: key,
      });
      for (const { path, leaf } of tree.leaves(params)) {
        const from = path === "lm_head.weight"
          ? expected.lm_head!.weight
          : base[path]!;
        assertEquals(await bytesOf(leaf), await bytesOf(from));
      }
      dispose([params, head]);
      tensors["score.weight"].dispose();
    }
    // What is missing from the base is no head.
    const { "model.norm.weight": norm, ...rest } = base;
    await writeModel(folder, rest);
    await assertRejects(
      () => fromPretrained(folder, { ...untied, newHead: key }),
      FormatError,
      "1 missing from the file: model.norm.weight",
    );
    dispose([norm!, rest, expected]);
    key.dispose();
    assertNoLeak(before);
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
