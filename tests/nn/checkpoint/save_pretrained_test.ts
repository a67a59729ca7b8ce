import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  FormatError,
  init,
  random,
  tensor,
  tree,
  TreeError,
} from "../../../core/mod.ts";
import {
  fromPretrained,
  inspectSafetensors,
  loadSafetensors,
  readSafetensors,
  savePretrained,
  saveSafetensors,
} from "../../../nn/checkpoint/mod.ts";
import { llama } from "../../../nn/models/mod.ts";
import { config, refusal, weights } from "./small_model.ts";
import { bytesOf, inFolder, namesIn } from "./support.ts";

await init({ backend: "reference" });

Deno.test("a model is saved in shards that are read again, and a later save leaves none of them", async () => {
  await inFolder(async (folder) => {
    const params = llama(config).init(random.key(1));
    await savePretrained(folder, { params, config, maxShardBytes: 200 });
    const names = namesIn(folder);
    assertEquals(names.slice(0, 2), [
      "config.json",
      "model-00001-of-00004.safetensors",
    ]);
    assertEquals(names.at(-1), "model.safetensors.index.json");
    const index = JSON.parse(
      await Deno.readTextFile(`${folder}/model.safetensors.index.json`),
    );
    assertEquals(index.metadata, { total_size: 4 * tree.count(params) });
    assertEquals(Object.keys(index.weight_map).length, 11);
    for (const name of names.slice(1, -1)) {
      const { tensors, metadata } = await readSafetensors(`${folder}/${name}`);
      assertEquals(metadata, { format: "pt" });
      const bytes = 4 * tree.count(tensors);
      assert(bytes <= 200 || Object.keys(tensors).length === 1);
    }
    const again = await fromPretrained(folder);
    const found = tree.leaves(again.params);
    for (const [i, { path, leaf }] of tree.leaves(params).entries()) {
      assertEquals(found[i]!.path, path);
      assertEquals(await bytesOf(found[i]!.leaf), await bytesOf(leaf));
    }
    await Deno.writeTextFile(`${folder}/model-notes.txt`, "");
    await savePretrained(folder, { params, config });
    assertEquals(namesIn(folder), [
      "config.json",
      "model-notes.txt",
      "model.safetensors",
    ]);
  });
});

Deno.test("a save in halves says so in the config, and an aborted one leaves the folder as it was", async () => {
  await inFolder(async (folder) => {
    const params = { a: tensor([1, 1 + 2 ** -8, -3]) };
    await savePretrained(folder, { params, config, dtype: "bf16" });
    const read = async (): Promise<unknown> =>
      JSON.parse(await Deno.readTextFile(`${folder}/config.json`));
    assertEquals(await read(), { ...config, torch_dtype: "bfloat16" });
    const path = `${folder}/model.safetensors`;
    assertEquals(await inspectSafetensors(path), {
      a: { dtype: "BF16", shape: [3] },
    });
    assertEquals(await (await loadSafetensors(path)).a!.toArray(), [1, 1, -3]);
    const modern = { ...config, dtype: "float32" };
    const save = { params, config: modern, dtype: "f16" } as const;
    await savePretrained(folder, save);
    assertEquals(await read(), { ...config, dtype: "float16" });
    await assertRejects(() =>
      savePretrained(folder, {
        params,
        config,
        signal: AbortSignal.abort(),
      })
    );
    assertEquals(await read(), { ...config, dtype: "float16" });
    assertEquals(namesIn(folder), ["config.json", "model.safetensors"]);
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
    await writeIndex({ a: "a.safetensors" });
    assertEquals(
      await refusal(folder),
      `Cannot read ${index}: it places the tensor "a" in a.safetensors, which has none`,
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
