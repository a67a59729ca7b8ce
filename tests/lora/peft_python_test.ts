/**
 * PEFT's folders as Python code writes them, and the faults that its users stumble on.
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
  type Tensor,
  tree,
  zeros,
} from "../../core/mod.ts";
import { loadPeft, lora, report, savePeft } from "../../lora/mod.ts";
import { readSafetensors, saveSafetensors } from "../../nn/checkpoint/mod.ts";
import { assertNoLeak, inFolder } from "../nn/checkpoint/support.ts";
import { adapt, baseParams, logits, trained } from "./support.ts";

await init({ backend: "reference" });

const params = baseParams();

/** Writes a folder, with the names of tensors below PEFT's root. */
async function write(
  folder: string,
  config: Record<string, unknown>,
  tensors: Record<string, Tensor>,
  root = "base_model.model.",
): Promise<void> {
  await Deno.writeTextFile(
    `${folder}/adapter_config.json`,
    JSON.stringify({ peft_type: "LORA", r: 1, ...config }),
  );
  await saveSafetensors(
    `${folder}/adapter_model.safetensors`,
    Object.fromEntries(
      Object.entries(tensors).map(([name, x]) => [root + name, x]),
    ),
    { metadata: { format: "pt" } },
  );
}

/** Factors of rank 1 of a module. */
function factors(
  module: string,
  into: number,
  out: number,
): Record<string, Tensor> {
  return {
    [`${module}.lora_A.weight`]: ones([1, into]),
    [`${module}.lora_B.weight`]: ones([out, 1]),
  };
}

function typesOf(t: tree.Tree): string[] {
  return tree.leaves(t).map(({ path, leaf }) => `${path} ${leaf}`)
    .filter((text) => text.includes("lora"));
}

/** What is said of a folder. */
async function fault(folder: string, of: tree.Tree): Promise<string> {
  const before = memory().tensors;
  const { message } = await assertRejects(
    () => loadPeft(folder, of),
    FormatError,
  );
  assertNoLeak(before);
  return message;
}

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

Deno.test("an entry that takes nothing is named, among others that do", async () => {
  const at = "model.layers.0.self_attn.q_proj";
  const one = factors(at, 8, 8);
  const cases: [Record<string, unknown>, string][] = [
    [
      { target_modules: [at, "query"] },
      'target_modules has "query", which fits none of 20 layers, such as model.embed_tokens, ',
    ],
    [
      { target_modules: [at, "lm_head"] },
      'target_modules has "lm_head", which fits none of 20 layers, such as model.embed_tokens, ',
    ],
    [
      { target_modules: [at], rank_pattern: { v_proj: 2 } },
      `rank_pattern has "v_proj", which fits none of 1 targets, such as ${at}`,
    ],
    [
      { target_modules: [at], alpha_pattern: { v_proj: 2 } },
      `alpha_pattern has "v_proj", which fits none of 1 targets, such as ${at}`,
    ],
    [
      { target_modules: [at], modules_to_save: ["head"] },
      'modules_to_save has "head", which fits none of 20 layers, such as model.embed_tokens, ',
    ],
  ];
  await inFolder(async (folder) => {
    for (const [config, why] of cases) {
      await write(folder, config, one);
      const message = await fault(folder, params);
      const start = `Cannot load an adapter from ${folder}: ${why}`;
      assertEquals(message.slice(0, start.length), start);
      assertEquals(
        message.endsWith(
          "; the output head is the embedding's table, and no layer of its own",
        ),
        why.includes("lm_head"),
      );
    }
  });
});

Deno.test("keys that do not fit load nothing, and are listed", async () => {
  await inFolder(async (folder) => {
    // As after saving a compiled or wrapped model.
    await write(folder, { target_modules: ["q"] }, {
      "q.lora_A.default.weight": ones([1, 3]),
      "q.lora_B.weight": ones([3, 1]),
      "q.lora_B.bias": ones([3]),
    });
    const at = "base_model.model.q";
    assertEquals(
      await fault(folder, { q: { weight: zeros([3, 3]) } }),
      `Cannot load ${folder}/adapter_model.safetensors: of 2 tensors expected 1 fit: ${at}.lora_B.weight` +
        `; 1 missing from the file: ${at}.lora_A.weight` +
        `; 2 unused in the file: ${at}.lora_A.default.weight, ${at}.lora_B.bias`,
    );
  });
});

Deno.test("an adapter knows the weights that it was saved for", async () => {
  const tuned = trained(adapt(params));
  const other = tree.map((x) => x.mul(1 + 2 ** -20), params);
  await inFolder(async (folder) => {
    await savePeft(folder, tuned, { baseModel: "me/tiny", revision: "v2" });
    const { metadata } = await readSafetensors(
      `${folder}/adapter_model.safetensors`,
    );
    const message = await fault(folder, other);
    const [found] = /(?<=these have )\w{16}/.exec(message) ?? [];
    assertEquals(
      message,
      `Cannot load an adapter from ${folder}: it was made for me/tiny, whose weights have the fingerprint ${
        metadata["cotan.base"]
      }, and these have ${found}; load that model, or pass anyBase: true`,
    );
    const forced = await loadPeft(folder, other, { anyBase: true });
    assertEquals(typesOf(forced), typesOf(tuned));
    // Only what is adapted counts.
    const { embed_tokens: _, ...rest } = params.model;
    await loadPeft(folder, { model: rest });
    // A name that the tree has another way is the same model.
    await assertRejects(() => loadPeft(folder, { model: {} }), FormatError);
    const config = JSON.parse(
      await Deno.readTextFile(`${folder}/adapter_config.json`),
    );
    assertEquals(config.revision, "v2");
  });
});

Deno.test("the report prints the scale of a file that is in force", async () => {
  await inFolder(async (folder) => {
    const model = {
      q: { weight: zeros([4, 4]) },
      v: { weight: zeros([4, 4]) },
    };
    const of = (name: string) => ({
      [`${name}.lora_A.weight`]: ones([2, 4]),
      [`${name}.lora_B.weight`]: ones([4, 2]),
    });
    const config = {
      r: 2,
      lora_alpha: 32,
      lora_dropout: 0.1,
      target_modules: ["q", "v"],
      alpha_pattern: { v: 3 },
    };
    await write(folder, config, { ...of("q"), ...of("v") });
    const { rows, warnings } = await report(await loadPeft(folder, model));
    assertEquals(rows.map(({ target, scale }) => [target, scale]), [
      ["q", 16],
      ["v", 1.5],
    ]);
    assertEquals(warnings, [
      "q counts 16 times at rank 2: was alpha meant to be divided by the rank?",
    ]);
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

Deno.test("a configuration that is no JSON object is refused by its file", async () => {
  const texts = ["", "{", "[]", "null", '"LORA"', '{"r":1,"r":2}', "\u0000"];
  for (const text of texts) {
    await inFolder(async (folder) => {
      const path = `${folder}/adapter_config.json`;
      await Deno.writeTextFile(path, text);
      const message = await fault(folder, params);
      const start = `Cannot read ${path}: it `;
      assertEquals(message.slice(0, start.length), start);
    });
  }
});
