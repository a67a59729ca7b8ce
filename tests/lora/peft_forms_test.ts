/**
 * PEFT's files of adapters of every form: written, read by other code, and loaded.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import fc from "fast-check";
import {
  init,
  memory,
  random,
  tensor,
  tree,
  TreeError,
} from "../../core/mod.ts";
import {
  activate,
  dylora,
  fromPissa,
  loadPeft,
  lora,
  type LoraOptions,
  mergeAdapters,
  savePeft,
  scaleAdapters,
  stackAdapters,
  truncate,
} from "../../lora/mod.ts";
import { assertNoLeak, inFolder, namesIn } from "../nn/checkpoint/support.ts";
import { readJson, readTensors } from "../support/golden.ts";
import { check } from "../support/runs.ts";
import { baseParams, distance, gpt, model, moved, outputs } from "./support.ts";

await init({ backend: "reference" });

const models = {
  gpt: {
    params: gpt.init(random.key(1)) as tree.Tree,
    targets: [
      "c_attn",
      "c_proj",
      "attn.c_proj",
      "c_fc",
      "wte",
      "wpe",
      "h.1.mlp.c_fc",
    ],
    modules: ["ln_f", "wpe", "mlp", "h.0.ln_1"],
    outputs: (params: tree.Tree) =>
      outputs(gpt, params as ReturnType<typeof gpt.init>),
  },
  llama: {
    params: baseParams() as tree.Tree,
    targets: [
      "q_proj",
      "v_proj",
      "down_proj",
      "embed_tokens",
      "layers.0.self_attn.o_proj",
    ],
    modules: ["model.norm", "mlp", "input_layernorm"],
    outputs: (params: tree.Tree) =>
      outputs(model, params as ReturnType<typeof model.init>),
  },
};

/** Paths, types and values of all leaves. */
async function contents(t: tree.Tree): Promise<[string, number[]][]> {
  return await Promise.all(
    tree.leaves(t).map(async ({ path, leaf }): Promise<[string, number[]]> => [
      `${path} ${leaf}`,
      [...await leaf.data()],
    ]),
  );
}

/** The name in PEFT's file of a leaf of an adapter, or null where the file has none. */
function fileName(path: string): string | null {
  const [, module, key] = /^(.*)\.lora\.(?:tales\.)?(\w+)$/.exec(path) ?? [];
  if (module === undefined) return null;
  const isTable = /(?:wte|wpe|embed_tokens)$/.test(module);
  const ends: Record<string, string> = {
    a: isTable ? "lora_embedding_A" : "lora_A.weight",
    b: isTable ? "lora_embedding_B" : "lora_B.weight",
    magnitude: "lora_magnitude_vector",
    weight: "weight",
    bias: "bias",
  };
  return key! in ends ? `base_model.model.${module}.${ends[key!]}` : null;
}

type Choice = { which: keyof typeof models; options: LoraOptions };

const choice: fc.Arbitrary<Choice> = fc.constantFrom("gpt", "llama").chain(
  (which) => {
    const { targets, modules } = models[which];
    return fc.record({
      targets: fc.uniqueArray(fc.constantFrom(...targets), { minLength: 1 }),
      rank: fc.integer({ min: 1, max: 3 }),
      alpha: fc.constantFrom(1, 3, 16, 0.3, 1e-3),
      dropout: fc.constantFrom(0, 0.05, 0.1),
      rslora: fc.boolean(),
      dora: fc.boolean(),
      init: fc.constantFrom("kaiming", "gaussian"),
      bias: fc.constantFrom("none", "all", "lora_only"),
      modulesToSave: fc.option(fc.constantFrom(...modules), { nil: undefined }),
      special: fc.option(fc.tuple(fc.nat(), fc.constantFrom(1, 2, 4)), {
        nil: undefined,
      }),
      name: fc.constantFrom(undefined, "tales"),
    }).map(({ special, name, modulesToSave, ...options }): Choice => {
      const pattern = special &&
        { [options.targets[special[0] % options.targets.length]!]: special[1] };
      return {
        which,
        options: {
          ...options,
          key: random.key(7),
          ...(name !== undefined && { name }),
          ...(modulesToSave !== undefined && { modulesToSave }),
          ...(pattern && { rankPattern: pattern, alphaPattern: pattern }),
        } as LoraOptions,
      };
    });
  },
);

/** The adapted model, or null where the options do not fit together, or all targets are in a module that is trained whole. */
function adapted({ which, options }: Choice): tree.Tree | null {
  try {
    const tuned = moved(lora(models[which].params, options));
    const hasFactors = tree.leaves(tuned).some(({ path }) =>
      /\.lora\.(?:tales\.)?a$/.test(path)
    );
    return hasFactors ? tuned : null;
  } catch (error) {
    if (error instanceof TreeError || error instanceof RangeError) return null;
    throw error;
  }
}

Deno.test("adapters of every form come back bit for bit, from files that are PEFT's", async () => {
  let count = 0;
  await check(
    fc.asyncProperty(choice, async (chosen) => {
      const { params, outputs } = models[chosen.which];
      const tuned = adapted(chosen);
      if (!tuned) return;
      count++;
      const { name } = chosen.options;
      await inFolder(async (folder) => {
        await savePeft(folder, tuned);
        const again = await loadPeft(folder, params, name ? { name } : {});
        const own = await contents(tuned);
        assertEquals(await contents(again), own);
        assertEquals(await outputs(again), await outputs(tuned));
        const merged = mergeAdapters(again, { untie: true });
        assertEquals(
          await contents(merged),
          await contents(mergeAdapters(tuned, { untie: true })),
        );
        const file = readTensors(`file://${folder}/adapter_model.safetensors`);
        const expected = tree.leaves(tuned).flatMap(({ path, leaf }, i) => {
          const name = fileName(path);
          return name ? [[name, leaf.shape, own[i]![1]] as const] : [];
        });
        assertEquals(
          [...file].map(([name, { shape, data }]) => [name, shape, [...data]]),
          expected.toSorted(([x], [y]) => x < y ? -1 : 1) as unknown,
        );
      });
    }),
    60,
  );
  assert(count > 30, `only ${count} trees`);
});

Deno.test("adapters of slices are saved as one of the whole weight that changes it by the same", async () => {
  const { params, outputs } = models.gpt;
  for (const dora of [false, true]) {
    for (const parts of [[true, false, true], [false, true, false]]) {
      const options = { targets: ["c_attn", "c_fc"], rank: 2, alpha: 3, dora };
      const tuned = moved(lora(params, {
        ...options,
        key: random.key(2),
        dropout: 0.1,
        bias: "lora_only",
        parts: { c_attn: parts },
      }));
      await inFolder(async (folder) => {
        const before = memory().tensors;
        await savePeft(folder, tuned);
        assertNoLeak(before);
        const config = readJson<Record<string, unknown>>(
          `file://${folder}/adapter_config.json`,
        );
        const count = parts.filter((part) => part).length;
        const rank = config.rank_pattern as Record<string, number>;
        assertEquals(
          [config.r, config.lora_alpha, rank],
          count === 1 ? [2, 3, {}] : [4, 6, { c_fc: 2 }],
        );
        const again = await loadPeft(folder, params);
        assert(
          distance(await outputs(again), await outputs(tuned)) < 1e-6,
        );
        const merged = await contents(mergeAdapters(again));
        const wanted = await contents(mergeAdapters(tuned));
        for (const [i, [path, values]] of merged.entries()) {
          assertEquals(path, wanted[i]![0]);
          assert(distance(values, wanted[i]![1]) < 1e-6, path);
        }
        const file = readTensors(`file://${folder}/adapter_model.safetensors`);
        const b = file.get(
          "base_model.model.transformer.h.0.attn.c_attn.lora_B.weight",
        )!;
        assertEquals(b.shape, [24, 2 * count]);
        // Blocks on the diagonal, in the order of the slices.
        let block = 0;
        for (const [i, part] of parts.entries()) {
          const columns = new Set<number>();
          for (let at = i * 8 * 2 * count; at < (i + 1) * 8 * 2 * count; at++) {
            if (b.data[at] !== 0) columns.add(at % (2 * count));
          }
          assertEquals(
            [...columns].sort(),
            part ? [2 * block, 2 * block + 1] : [],
          );
          if (part) block++;
        }
      });
    }
  }
});

Deno.test("adapters by name have a folder each, and load into one tree", async () => {
  const { params } = models.gpt;
  const options = { targets: "c_attn", rank: 2, alpha: 4, key: random.key(3) };
  const one = lora(params, { ...options, name: "tales" });
  const both = moved(
    lora(one, { ...options, targets: ["c_fc", "wpe"], name: "poems" }),
  );
  await inFolder(async (folder) => {
    await assertRejects(
      () => savePeft(folder, both),
      TreeError,
      "Cannot save adapters: there are several, poems, tales, and PEFT has a folder for each; pass name",
    );
    await assertRejects(
      () => savePeft(folder, both, { name: "haiku" }),
      TreeError,
      'Cannot save adapters by the name "haiku": there are poems, tales',
    );
    const before = memory().tensors;
    for (const name of ["tales", "poems"]) {
      await savePeft(`${folder}/${name}`, both, { name });
    }
    assertNoLeak(before);
    const first = await loadPeft(`${folder}/tales`, params, { name: "tales" });
    const again = await loadPeft(`${folder}/poems`, first, { name: "poems" });
    assertEquals(await contents(again), await contents(both));
    const alone = await loadPeft(`${folder}/tales`, params);
    assertEquals(
      await contents(alone),
      await contents(activate(both, "tales")),
    );
    await assertRejects(
      () => loadPeft(`${folder}/tales`, again, { name: "tales" }),
      TreeError,
      'Cannot adapt transformer.h.0.attn.c_attn: it has an adapter "tales" already; use dropAdapters first, or another name',
    );
    await assertRejects(
      () => loadPeft(`${folder}/tales`, params, { name: "scale" }),
      TreeError,
      'Cannot name an adapter "scale"',
    );
  });
});

Deno.test("what PEFT has no form for is refused, and nothing is written", async () => {
  const { params } = models.gpt;
  const options = { targets: "c_attn", rank: 2, alpha: 4, key: random.key(3) };
  const tuned = lora(params, options);
  const at = "the one at transformer.h.0.attn.c_attn";
  const part = (scale: number) => ({
    a: tensor([[1]]),
    b: tensor([[2]]),
    scale: tensor(scale),
  });
  const slices = {
    qk: { weight: tensor([[1], [2]]), lora: [part(1), part(2)] },
  };
  const cases: [tree.Tree, string][] = [
    [
      dylora(params, options),
      `${at} is of DyLoRA, which has many ranks in one; use truncate first`,
    ],
    [
      stackAdapters([tuned, tuned]),
      `${at} is a stack, of which each row of a batch has one; save those that it was made of`,
    ],
    [scaleAdapters(tuned, NaN), `the scale of ${at} is NaN`],
    [scaleAdapters(tuned, Infinity), `the scale of ${at} is Infinity`],
    [
      slices,
      "the slices at qk have the scales 1, 2, and PEFT has one",
    ],
    [
      { q: { weight: tensor([[1]]), lora: { weight: tensor([[2]]) } } },
      "none has factors, and PEFT's LoRA has some in one layer at least",
    ],
  ];
  await inFolder(async (folder) => {
    for (const [one, why] of cases) {
      const before = memory().tensors;
      const error = await assertRejects(
        () => savePeft(folder, one),
        TreeError,
      );
      assertEquals(error.message, `Cannot save adapters: ${why}`);
      assertEquals(namesIn(folder), []);
      assertNoLeak(before);
    }
    await savePeft(folder, truncate(moved(dylora(params, options)), 1));
    const { r, lora_alpha } = readJson<Record<string, unknown>>(
      `file://${folder}/adapter_config.json`,
    );
    assertEquals([r, lora_alpha], [1, 4]);
  });
});

Deno.test("a layer that is trained whole is saved with the bias that it has", async () => {
  const [weight, bias] = [tensor([[1], [2]]), tensor([3, 4])];
  const factors = {
    a: tensor([[5]]),
    b: tensor([[6], [7]]),
    scale: tensor(1),
  };
  const base = { q: { weight }, head: { weight, bias } };
  const tuned = {
    q: { weight, lora: factors },
    head: { weight, bias, lora: { weight: tensor([[8], [9]]) } },
  };
  await inFolder(async (folder) => {
    await savePeft(folder, tuned);
    const again = await loadPeft(folder, base);
    assertEquals((await contents(again)).slice(-2), [
      ["head.lora.weight f32[2, 1]", [8, 9]],
      ["head.lora.bias f32[2]", [3, 4]],
    ]);
    const lora = { ...factors, weight };
    const error = await assertRejects(
      () => savePeft(folder, { q: { weight, lora } }),
      TreeError,
    );
    assertEquals(
      error.message,
      "Cannot save adapters: the one at q brings a whole weight beside factors; PEFT has one of them",
    );
  });
});

Deno.test("PiSSA's adapter is saved as an ordinary one of the weights that were there before", async () => {
  const { params, outputs } = models.gpt;
  const start = lora(params, {
    targets: ["c_attn", "c_fc"],
    rank: 2,
    alpha: 3,
    key: random.key(4),
    init: "pissa",
  });
  const trained = moved(start);
  await inFolder(async (folder) => {
    await savePeft(folder, fromPissa(trained, { start, params }));
    const again = await loadPeft(folder, params);
    const gap = distance(await outputs(again), await outputs(trained));
    assert(gap < 1e-5, `${gap}`);
    // As it stands, the adapter fits the weights that PiSSA has left.
    await savePeft(folder, trained);
    await assertRejects(() => loadPeft(folder, params), Error, "fingerprint");
  });
});
