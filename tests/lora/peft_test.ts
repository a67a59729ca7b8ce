import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  FormatError,
  init,
  memory,
  random,
  tree,
  TreeError,
  zeros,
} from "../../core/mod.ts";
import {
  isAdapter,
  loadPeft,
  lora,
  report,
  savePeft,
  scaleAdapters,
} from "../../lora/mod.ts";
import { readSafetensors, saveSafetensors } from "../../nn/checkpoint/mod.ts";
import { gpt2 } from "../../nn/models/mod.ts";
import { unflatten } from "../../nn/models/parameters.ts";
import {
  inFolder,
  isAbsent,
  namesIn,
  shared,
} from "../nn/checkpoint/support.ts";
import { readJson, readTensors } from "../support/golden.ts";
import {
  adapt,
  baseParams,
  gpt,
  logits,
  moved,
  outputs,
  trained,
} from "./support.ts";

await init({ backend: "reference" });

const params = baseParams();

/** The message with which an adapter is refused. */
async function refusal(folder: string): Promise<string> {
  const before = memory().tensors;
  const error = await assertRejects(
    () => loadPeft(folder, params),
    FormatError,
  );
  assert(memory().tensors <= before, "tensors leak");
  return error.message;
}

/** Changes fields of the configuration of a saved adapter. */
async function changeConfig(
  folder: string,
  changes: Record<string, unknown>,
): Promise<void> {
  const path = `${folder}/adapter_config.json`;
  const config = JSON.parse(await Deno.readTextFile(path));
  await Deno.writeTextFile(path, JSON.stringify({ ...config, ...changes }));
}

Deno.test("a saved adapter comes back with the same logits bit for bit", async () => {
  const cases = [
    {},
    { rslora: true },
    { rank: 1, alpha: 0.3, targets: "all-linear" },
    { targets: ["model.layers.1.mlp.up_proj", "k_proj"], alpha: 16 },
  ];
  for (const changes of cases) {
    await inFolder(async (folder) => {
      const tuned = trained(adapt(params, changes));
      const target = new URL(`file://${folder}/new`);
      await savePeft(target, tuned, { baseModel: "me/tiny" });
      const again = await loadPeft(target, params);
      assertEquals(await logits(again), await logits(tuned));
      assertEquals(
        tree.leaves(again).map(({ path, leaf }) => `${path} ${leaf}`),
        tree.leaves(tuned).map(({ path, leaf }) => `${path} ${leaf}`),
      );
    });
  }
});

Deno.test("ranks and scales that differ from layer to layer come back too", async () => {
  await inFolder(async (folder) => {
    const one = adapt(params, { targets: "q_proj", rank: 2, alpha: 5 });
    const two = adapt(one, { targets: "v_proj", rank: 4, alpha: 5 });
    const tuned = trained(
      adapt(two, { targets: /.*\.1\.mlp\.up_proj/, rank: 4, alpha: 3 }),
    );
    await savePeft(folder, tuned);
    const again = await loadPeft(folder, params);
    assertEquals(await logits(again), await logits(tuned));
    assertEquals((await report(again)).rows, (await report(tuned)).rows);
  });
});

Deno.test("the files are those of PEFT", async () => {
  await inFolder(async (folder) => {
    await savePeft(folder, adapt(params), {
      baseModel: "me/tiny",
      taskType: "CAUSAL_LM",
    });
    assertEquals(namesIn(folder), [
      "adapter_config.json",
      "adapter_model.safetensors",
    ]);
    const config = JSON.parse(
      await Deno.readTextFile(`${folder}/adapter_config.json`),
    );
    assertEquals(config.target_modules, ["q_proj", "v_proj"]);
    assertEquals([config.r, config.lora_alpha], [3, 6]);
    assertEquals(config.base_model_name_or_path, "me/tiny");
    assertEquals(config.task_type, "CAUSAL_LM");
    const { tensors, metadata } = await readSafetensors(
      `${folder}/adapter_model.safetensors`,
    );
    assertEquals(Object.keys(metadata), ["format", "cotan.base"]);
    assertEquals(metadata.format, "pt");
    assertEquals(
      Object.entries(tensors).map(([name, x]) => `${name} ${x}`),
      [0, 1].flatMap((i) => {
        const at = `base_model.model.model.layers.${i}.self_attn`;
        return [
          `${at}.q_proj.lora_A.weight f32[3, 8]`,
          `${at}.q_proj.lora_B.weight f32[8, 3]`,
          `${at}.v_proj.lora_A.weight f32[3, 8]`,
          `${at}.v_proj.lora_B.weight f32[4, 3]`,
        ];
      }),
    );
  });
});

Deno.test("a scaled adapter is saved with the scale in force", async () => {
  await inFolder(async (folder) => {
    const tuned = trained(adapt(params));
    await savePeft(folder, scaleAdapters(tuned, 0.25));
    const again = await loadPeft(folder, params);
    assertEquals(await logits(again), await logits(scaleAdapters(tuned, 0.25)));
  });
});

Deno.test("tensors that are missing, unused or of another shape are listed", async () => {
  await inFolder(async (folder) => {
    await savePeft(folder, adapt(params));
    const path = `${folder}/adapter_model.safetensors`;
    const { tensors } = await readSafetensors(path);
    const at = "base_model.model.model.layers";
    const { [`${at}.1.self_attn.v_proj.lora_A.weight`]: one, ...rest } =
      tensors;
    await saveSafetensors(path, {
      ...rest,
      [`${at}.7.self_attn.v_proj.lora_A.weight`]: one!,
      [`${at}.0.self_attn.q_proj.lora_B.weight`]: zeros([3, 8]),
    });
    assertEquals(
      await refusal(folder),
      `Cannot load ${path}: of 8 tensors expected 6 fit: ` +
        ["0.self_attn.q_proj.lora_A", "0.self_attn.v_proj.lora_A"].concat(
          ["0.self_attn.v_proj.lora_B", "1.self_attn.q_proj.lora_A"],
          ["1.self_attn.q_proj.lora_B", "1.self_attn.v_proj.lora_B"],
        ).map((name) => `${at}.${name}.weight`).join(", ") +
        `; 1 missing from the file: ${at}.1.self_attn.v_proj.lora_A.weight` +
        `; 1 unused in the file: ${at}.7.self_attn.v_proj.lora_A.weight` +
        `; 1 of another type: ${at}.0.self_attn.q_proj.lora_B.weight is f32[3, 8], expected f32[8, 3]`,
    );
    await saveSafetensors(path, tensors);
    await loadPeft(folder, params);
    await changeConfig(folder, { target_modules: ["q_proj"] });
    const unused = await refusal(folder);
    assert(unused.includes("of 4 tensors expected 4 fit: "), unused);
    assert(unused.includes("; 4 unused in the file: "), unused);
  });
});

Deno.test("what does not fit the model or is not there is named", async () => {
  await inFolder(async (folder) => {
    const at = `Cannot load an adapter from ${folder}`;
    assertEquals(
      await refusal(folder),
      `${at}: there is no adapter_config.json; expected a folder with adapter_config.json and adapter_model.safetensors`,
    );
    await savePeft(folder, adapt(params));
    await changeConfig(folder, { target_modules: ["query", "value"] });
    const message = await refusal(folder);
    assert(
      message.startsWith(
        `${at}: target_modules ["query","value"] take none of the model's 20 layers, such as model.embed_tokens, model.layers.0.input_layernorm, `,
      ),
      message,
    );
    await changeConfig(folder, { target_modules: ["norm"] });
    await assertRejects(
      () => loadPeft(folder, params),
      TreeError,
      "Cannot adapt model.norm: its weight is f32[8], and that of a linear layer is [out, in]",
    );
    await changeConfig(folder, { target_modules: ["q_proj", "v_proj"] });
    await assertRejects(
      () => loadPeft(folder, adapt(params)),
      TreeError,
      "Cannot adapt model.layers.0.self_attn.q_proj: it has an adapter already; use mergeAdapters or dropAdapters first",
    );
    const weights = `${folder}/adapter_model.safetensors`;
    await Deno.remove(weights);
    assertEquals(
      await refusal(folder),
      `Cannot read ${weights}: there is no such file`,
    );
    await Deno.writeTextFile(`${folder}/adapter_model.bin`, "");
    assertEquals(
      await refusal(folder),
      `${at}: adapter_model.bin is a pickle, which can run code; convert it in Python by loading it with PEFT ` +
        "and model.save_pretrained(folder, safe_serialization=True)",
    );
  });
});

Deno.test("a save that fails leaves the adapter that was there", async () => {
  await inFolder(async (folder) => {
    const old = trained(adapt(params));
    await savePeft(folder, old);
    const fresh = adapt(params, { targets: "q_proj" });
    const [trainable] = tree.partition(fresh, isAdapter);
    tree.leaves(trainable).at(-1)!.leaf.dispose();
    await assertRejects(() => savePeft(folder, fresh), ReferenceError);
    assertEquals(namesIn(folder), [
      "adapter_config.json",
      "adapter_model.safetensors",
    ]);
    assertEquals(
      await logits(await loadPeft(folder, params)),
      await logits(old),
    );
    await assertRejects(
      () => savePeft(folder, params),
      TreeError,
      "Cannot save adapters: no layer of the tree has an adapter",
    );
  });
});

Deno.test("an adapter in half precision loads, widened", async () => {
  await inFolder(async (folder) => {
    const weight = { weight: zeros([2, 2]) };
    const key = random.key(0);
    const tuned = lora({ q: weight }, { targets: "q", rank: 1, alpha: 1, key });
    await savePeft(folder, tuned);
    const at = "base_model.model.q";
    const info = (begin: number, shape: number[]) => ({
      dtype: "BF16",
      shape,
      data_offsets: [begin, begin + 4],
    });
    const header = new TextEncoder().encode(JSON.stringify({
      [`${at}.lora_A.weight`]: info(0, [1, 2]),
      [`${at}.lora_B.weight`]: info(4, [2, 1]),
    }));
    const out = new Uint8Array(8 + header.length + 8);
    new DataView(out.buffer).setBigUint64(0, BigInt(header.length), true);
    out.set(header, 8);
    const halves = Uint16Array.of(0x3f80, 0xc000, 0x4040, 0);
    out.set(new Uint8Array(halves.buffer), 8 + header.length);
    await Deno.writeFile(`${folder}/adapter_model.safetensors`, out);
    const loaded = tree.leaves(await loadPeft(folder, { q: weight }));
    assertEquals(await loaded[1]!.leaf.toArray(), [[1, -2]]);
    assertEquals(await loaded[2]!.leaf.toArray(), [[3], [0]]);
  });
});

const real = "data/adapters/gpt2-tigrinya-lora";
Deno.test({
  name:
    "a real adapter of GPT-2 loads whole, and is saved as the same tensors and an equal configuration",
  ignore: isAbsent(real),
  fn: async () => {
    const { shapes } = gpt2({
      vocab_size: 50257,
      n_positions: 1024,
      n_embd: 768,
      n_layer: 12,
      n_head: 12,
    });
    const params = unflatten(
      Object.entries(shapes).map(([path, shape]) => [path, zeros(shape)]),
    );
    const from = shared(real);
    const tuned = await loadPeft(from, params);
    const { rows, parameters } = await report(tuned);
    assertEquals(parameters, 811008);
    assertEquals(rows.map(({ scale }) => scale), [4, 4, 4]);
    const leaves = tree.leaves(tuned).filter(({ path }) =>
      /lora\.[ab]$/.test(path)
    );
    assertEquals(leaves.length, 72);
    await inFolder(async (folder) => {
      await savePeft(folder, tuned, {
        baseModel: "gpt2",
        taskType: "CAUSAL_LM",
      });
      const file = "adapter_model.safetensors";
      const own = readTensors(`file://${folder}/${file}`);
      const given = readTensors(`data/adapters/gpt2-tigrinya-lora/${file}`);
      assertEquals(own.size, 72);
      assertEquals([...own.keys()].sort(), [...given.keys()].sort());
      for (const [name, { dtype, shape, data }] of given) {
        const { dtype: type, shape: sizes, data: values } = own.get(name)!;
        assertEquals([type, sizes], [dtype, shape]);
        assert(
          bits(values).every((x, i) => x === bits(data)[i]),
          name,
        );
      }
      const config = (at: string) =>
        readJson<Record<string, unknown>>(`${at}/adapter_config.json`);
      const theirs = config("data/adapters/gpt2-tigrinya-lora");
      for (const [key, value] of Object.entries(config(`file://${folder}`))) {
        assertEquals(value, theirs[key], key);
      }
    });
    for (const leaf of new Set(tree.leaves(tuned).map(({ leaf }) => leaf))) {
      leaf.dispose();
    }
  },
});

function bits(
  { buffer, byteOffset, length }: {
    buffer: ArrayBufferLike;
    byteOffset: number;
    length: number;
  },
): Uint32Array {
  return new Uint32Array(buffer, byteOffset, length);
}

Deno.test("a URL and a text name the same folder", async () => {
  await inFolder(async (folder) => {
    await savePeft(`${folder}/a b`, adapt(params));
    await loadPeft(new URL(`file://${folder}/a%20b/`), params);
  });
});

Deno.test("an adapter of Conv1D comes back", async () => {
  await inFolder(async (folder) => {
    const base = gpt.init(random.key(1));
    const tuned = moved(lora(base, {
      targets: ["c_attn", "mlp.c_proj"],
      rank: 2,
      alpha: 4,
      key: random.key(0),
    }));
    await savePeft(folder, tuned);
    const config = JSON.parse(
      await Deno.readTextFile(`${folder}/adapter_config.json`),
    );
    assertEquals(config.fan_in_fan_out, true);
    const again = await loadPeft(folder, base);
    assertEquals(await outputs(gpt, again), await outputs(gpt, tuned));
  });
});
