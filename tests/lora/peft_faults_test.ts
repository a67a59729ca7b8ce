/**
 * What users of PEFT stumble on: each is an error here, or a line in the report.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { init, ones, tree, zeros } from "../../core/mod.ts";
import { loadPeft, report, savePeft } from "../../lora/mod.ts";
import { readSafetensors } from "../../nn/checkpoint/mod.ts";
import { inFolder } from "../nn/checkpoint/support.ts";
import { factors, fault, typesOf, write } from "./peft_support.ts";
import { adapt, baseParams, trained } from "./support.ts";

await init({ backend: "reference" });

const params = baseParams();

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
    // Without the prefix of its names it is the same model.
    await loadPeft(folder, params.model);
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
