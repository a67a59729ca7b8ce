/**
 * Adapters of mlx-lm, in folders as it writes them.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  FormatError,
  init,
  memory,
  random,
  tensor,
  tree,
  TreeError,
} from "../../core/mod.ts";
import {
  loadMlx,
  lora,
  type LoraOptions,
  mergeAdapters,
  report,
  savePeft,
} from "../../lora/mod.ts";
import { saveSafetensors } from "../../nn/checkpoint/mod.ts";
import { assertNoLeak, inFolder } from "../nn/checkpoint/support.ts";
import { readJson } from "../support/golden.ts";
import { baseParams, distance, gpt, model, moved, outputs } from "./support.ts";

await init({ backend: "reference" });

type Params = ReturnType<typeof model.init>;

const params: Params = baseParams();
const keys = ["self_attn.q_proj", "self_attn.v_proj"];

/** Writes the adapter of a model as mlx-lm does: [in, R] and [R, out]. */
async function write(
  folder: string,
  tuned: tree.Tree,
  config: Record<string, unknown>,
  rename = (path: string) => path,
): Promise<void> {
  const ends: Record<string, string> = {
    a: "lora_a",
    b: "lora_b",
    magnitude: "m",
  };
  const tensors = tree.leaves(tuned).flatMap(({ path, leaf }) => {
    const [, module, key] = /^(.*)\.lora\.(\w+)$/.exec(path) ?? [];
    if (!module || !(key! in ends)) return [];
    const value = key === "magnitude" ? leaf : leaf.transpose();
    return [[`${rename(module)}.${ends[key!]}`, value] as const];
  });
  await saveSafetensors(
    `${folder}/adapters.safetensors`,
    Object.fromEntries(tensors),
  );
  await Deno.writeTextFile(
    `${folder}/adapter_config.json`,
    JSON.stringify(config),
  );
}

function adapt(changes: Partial<LoraOptions> = {}): Params {
  return moved(lora(params, {
    targets: ["q_proj", "v_proj"],
    rank: 2,
    alpha: 6,
    key: random.key(5),
    ...changes,
  }));
}

const parameters = { rank: 2, scale: 3, dropout: 0 };

Deno.test("an adapter of LoRA or DoRA computes what it did, its scale taken as it stands", async () => {
  const cases: [Partial<LoraOptions>, Record<string, unknown>][] = [
    [{}, {
      fine_tune_type: "lora",
      num_layers: 2,
      lora_parameters: { ...parameters, keys },
    }],
    [{}, { lora_parameters: parameters }],
    [{ dora: true, dropout: 0.1 }, {
      fine_tune_type: "dora",
      num_layers: -1,
      lora_parameters: { ...parameters, dropout: 0.1, keys },
    }],
    [{ layersToTransform: 1 }, {
      num_layers: 1,
      lora_parameters: { ...parameters, keys },
    }],
    [
      { targets: ["embed_tokens", "q_proj"], dropout: 0.25 },
      {
        num_layers: 16,
        lora_parameters: {
          ...parameters,
          dropout: 0.25,
          keys: ["model.embed_tokens", "self_attn.q_proj"],
        },
      },
    ],
  ];
  for (const [options, config] of cases) {
    const tuned = adapt(options);
    await inFolder(async (folder) => {
      await write(folder, tuned, config);
      const before = memory().tensors;
      const again = await loadMlx(folder, params);
      const leaves = tree.leaves(tuned).filter(({ path }) =>
        path.includes("lora")
      );
      assertNoLeak(before + leaves.length);
      assertEquals(await outputs(model, again), await outputs(model, tuned));
      assertEquals(
        tree.leaves(again).map(({ path, leaf }) => `${path} ${leaf}`),
        tree.leaves(tuned).map(({ path, leaf }) => `${path} ${leaf}`),
      );
      const { rows } = await report(again);
      assertEquals(rows[0]!.scale, 3);
      // To PEFT: alpha is scale · rank.
      await savePeft(`${folder}/peft`, again);
      const { lora_alpha } = readJson<Record<string, unknown>>(
        `file://${folder}/peft/adapter_config.json`,
      );
      assertEquals(lora_alpha, 6);
    });
  }
});

Deno.test("the change of the weight is scale · (lora_a lora_b)ᵀ", async () => {
  await inFolder(async (folder) => {
    await saveSafetensors(`${folder}/adapters.safetensors`, {
      "model.layers.0.q.lora_a": tensor([[1], [2], [3]]),
      "model.layers.0.q.lora_b": tensor([[10, 100]]),
    });
    await Deno.writeTextFile(
      `${folder}/adapter_config.json`,
      JSON.stringify({ lora_parameters: { rank: 1, scale: 20 } }),
    );
    const weight = tensor([[0, 0, 1], [0, 0, 2]]);
    const base = { model: { layers: [{ q: { weight } }] } };
    const merged = mergeAdapters(await loadMlx(folder, base));
    assertEquals(await merged.model.layers[0]!.q.weight.toArray(), [
      [200, 400, 601],
      [2000, 4000, 6002],
    ]);
  });
});

Deno.test("GPT-2 has its backbone under another name there, and adapters may have names here", async () => {
  const base = gpt.init(random.key(1));
  const options = { targets: ["c_attn", "wpe"], rank: 2, alpha: 6 };
  const tuned = moved(lora(base, { ...options, key: random.key(2) }));
  await inFolder(async (folder) => {
    await write(
      folder,
      tuned,
      { lora_parameters: parameters },
      (path) => path.replace(/^transformer/, "model"),
    );
    const again = await loadMlx(folder, base, { name: "tales" });
    const gap = distance(await outputs(gpt, again), await outputs(gpt, tuned));
    assert(gap < 1e-6);
    await assertRejects(
      () => loadMlx(folder, again),
      TreeError,
      "Cannot adapt transformer.wpe: it has an adapter already",
    );
  });
});

Deno.test("what does not fit is listed or named", async () => {
  const tuned = adapt();
  const good = { num_layers: 2, lora_parameters: { ...parameters, keys } };
  const at = "model.layers.0.self_attn";
  const cases: [Record<string, unknown>, string][] = [
    [
      { ...good, fine_tune_type: "full" },
      '/adapter_config.json: fine_tune_type is "full", and there are "lora" and "dora"',
    ],
    [
      {},
      "/adapter_config.json: lora_parameters is absent, and it must be an object",
    ],
    [
      { lora_parameters: { rank: 2 } },
      "/adapter_config.json: lora_parameters.scale is absent, and it must be a number",
    ],
    [
      { lora_parameters: { ...parameters, keys: "q_proj" } },
      '/adapter_config.json: lora_parameters.keys is "q_proj", and it must be a list of texts',
    ],
    [
      { lora_parameters: { ...parameters, keys: [...keys, "q_proj"] } },
      ': the key "q_proj" fits none of the model\'s 20 layers, such as model.embed_tokens, ',
    ],
    [
      { ...good, num_layers: 1 },
      "/adapters.safetensors: of 4 tensors expected 4 fit: ",
    ],
    [
      { ...good, fine_tune_type: "dora" },
      "/adapters.safetensors: of 12 tensors expected 8 fit: ",
    ],
    [
      { lora_parameters: { ...parameters, rank: 4, keys: keys.slice(0, 1) } },
      `/adapters.safetensors: of 4 tensors expected 0 fit; 4 unused in the file: `,
    ],
    [
      { lora_parameters: { ...parameters, rank: 4 } },
      `/adapters.safetensors: of 8 tensors expected 0 fit; 8 of another type: ${at}.q_proj.lora_a is f32[8, 2], expected f32[8, 4], `,
    ],
  ];
  for (const [config, why] of cases) {
    await inFolder(async (folder) => {
      await write(folder, tuned, config);
      const before = memory().tensors;
      const { message } = await assertRejects(
        () => loadMlx(folder, params),
        FormatError,
      );
      assertNoLeak(before);
      assert(
        message.replace(/^Cannot \w+ (?:an adapter from )?/, "")
          .startsWith(folder + why),
        message,
      );
    });
  }
  await inFolder(async (folder) => {
    const { lora_parameters } = good;
    await write(folder, adapt({ targets: "embed_tokens" }), {
      fine_tune_type: "dora",
      lora_parameters: { ...lora_parameters, keys: ["model.embed_tokens"] },
    });
    await assertRejects(
      () => loadMlx(folder, params),
      TreeError,
      "Cannot adapt model.embed_tokens: mlx-lm's DoRA measures tables of embeddings another way",
    );
  });
});
