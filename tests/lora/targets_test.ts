import { assertEquals, assertThrows } from "@std/assert";
import { init, random, tree, TreeError, zeros } from "cotan";
import { lora, type LoraOptions } from "cotan/lora";
import { kindOf, layersOf } from "../../lora/layers.ts";
import { adapt, baseParams, gpt, typesIn } from "./support.ts";

await init({ backend: "reference" });

const params = baseParams();
const base = gpt.init(random.key(1));

/** The adapted layers under options, on Llama. */
function targets(changes: Partial<LoraOptions>): string[] {
  return typesIn(adapt(params, changes), /lora\.a /)
    .map((text) => text.replace(/^model\.layers\.|\.lora\.a.*$/g, ""));
}

Deno.test("a layer's kind is told by its bias, else by its name, or by the caller", () => {
  const layer = (path: string, shape: number[], bias?: number) => ({
    path,
    node: bias === undefined ? {} : { bias: zeros([bias]) },
    weight: zeros(shape),
    shape,
  });
  const cases: [Parameters<typeof kindOf>, string][] = [
    [[layer("h.0.attn.c_attn", [8, 24], 24)], "conv1D"],
    [[layer("h.0.attn.c_proj", [8, 8], 8)], "conv1D"],
    // GPTBigCode has GPT-2's names for nn.Linear.
    [[layer("h.0.attn.c_attn", [24, 8], 24)], "linear"],
    [[layer("h.0.attn.c_attn", [24, 8])], "conv1D"],
    [[layer("q_proj", [8, 8], 8)], "linear"],
    [[layer("mine", [8, 24], 24)], "conv1D"],
    [[layer("mine", [8, 24]), true], "conv1D"],
    [[layer("c_fc", [8, 8], 8), false], "linear"],
    [[layer("transformer.wte", [11, 8]), true], "embedding"],
    [[layer("bert.embeddings.word_embeddings", [11, 8])], "embedding"],
    [[layer("embed_out", [11, 8])], "linear"],
    [[layer("norm", [8], 8)], "vector"],
  ];
  // An adapter of [in, 2] was made for one of the two.
  for (const [into, kind] of [[24, "linear"], [8, "conv1D"]] as const) {
    const { node, ...rest } = layer("mine", [8, 24]);
    const lora = { tales: [null, { a: zeros([2, into]) }] };
    cases.push([[{ ...rest, node: { ...node, lora } }], kind]);
  }
  for (const [args, kind] of cases) {
    assertEquals(kindOf(...args), kind, args[0].path);
  }
  const kinds = layersOf(base).map((layer) => kindOf(layer));
  assertEquals([...new Set(kinds)].sort(), ["conv1D", "embedding", "vector"]);
});

Deno.test("an adapter of Conv1D is a [R, in] and b [out, R], and one of an embedding a [R, V] and b [C, R]", () => {
  const tuned = lora(base, {
    targets: ["c_attn", "mlp.c_proj", "wte"],
    rank: 2,
    alpha: 2,
    key: random.key(0),
  });
  assertEquals(typesIn(tuned, /^(?!.*h\.1).*lora\.[ab]/), [
    "transformer.wte.lora.a f32[2, 11]",
    "transformer.wte.lora.b f32[8, 2]",
    "transformer.h.0.attn.c_attn.lora.a f32[2, 8]",
    "transformer.h.0.attn.c_attn.lora.b f32[24, 2]",
    "transformer.h.0.mlp.c_proj.lora.a f32[2, 32]",
    "transformer.h.0.mlp.c_proj.lora.b f32[8, 2]",
  ]);
  const all = lora(base, {
    targets: "all-linear",
    rank: 2,
    alpha: 2,
    key: random.key(0),
  });
  assertEquals(typesIn(all, /lora\.a/).length, 8);
});

Deno.test("fanInFanOut says which way weights lie that nothing else tells", () => {
  const tree = { mine: { weight: zeros([4, 6]) } };
  const options = { targets: "mine", rank: 2, alpha: 2, key: random.key(0) };
  assertEquals(typesIn(lora(tree, options), /[ab] /), [
    "mine.lora.a f32[2, 6]",
    "mine.lora.b f32[4, 2]",
  ]);
  assertEquals(
    typesIn(lora(tree, { ...options, fanInFanOut: true }), /[ab] /),
    [
      "mine.lora.a f32[2, 4]",
      "mine.lora.b f32[6, 2]",
    ],
  );
});

Deno.test("layers are left out by name, and by the number of their block", () => {
  const both = (name: string) => [`0.${name}`, `1.${name}`];
  assertEquals(targets({ targets: /.*[qv]_proj/, exclude: ["v_proj"] }), [
    ...both("self_attn.q_proj"),
  ]);
  assertEquals(
    targets({ targets: "all-linear", exclude: /.*\.(mlp|self_attn)\.[^v]*/ }),
    both("self_attn.v_proj"),
  );
  assertEquals(targets({ targets: ["q_proj"], layersToTransform: 1 }), [
    "1.self_attn.q_proj",
  ]);
  assertEquals(
    targets({ targets: ["q_proj"], layersToTransform: [0, 1] }),
    both("self_attn.q_proj"),
  );
  assertEquals(
    targets({
      targets: ["q_proj", "model.layers.0.mlp.up_proj"],
      layersToTransform: [1],
      layersPattern: "layers",
    }),
    ["0.mlp.up_proj", "1.self_attn.q_proj"],
  );
});

Deno.test("ranks and alphas follow the first pattern that fits, and each slice has the rank", async () => {
  const tuned = adapt(params, {
    targets: ["q_proj", "v_proj"],
    rank: 2,
    alpha: 8,
    rankPattern: { "0.self_attn.q_proj": 4, "layers.\\d.*v_proj": 1 },
    alphaPattern: { v_proj: 3, "1.self_attn.v_proj": 100 },
  });
  assertEquals(typesIn(tuned, /lora\.a/).map((text) => text.slice(13)), [
    "0.self_attn.q_proj.lora.a f32[4, 8]",
    "0.self_attn.v_proj.lora.a f32[1, 8]",
    "1.self_attn.q_proj.lora.a f32[2, 8]",
    "1.self_attn.v_proj.lora.a f32[1, 8]",
  ]);
  const scales = tree.leaves(tuned).filter(({ path }) => /scale/.test(path));
  assertEquals(
    await Promise.all(scales.map(({ leaf }) => leaf.item())),
    [2, 3, 4, 3],
  );
});

Deno.test("targets, patterns and parts that take nothing, or what cannot be, are refused", () => {
  const cases: [() => unknown, string][] = [
    [
      () => adapt(params, { exclude: ["key"] }),
      'Cannot select by "key": it matches no layer; there are model.embed_tokens, model.layers.*.input_layernorm, ',
    ],
    [
      () => adapt(params, { layersToTransform: [1, 7] }),
      "Cannot adapt block 7: the targets take none of its layers, but those of blocks 0, 1",
    ],
    [
      () => adapt(params, { layersToTransform: 0, layersPattern: "h" }),
      "Cannot adapt block 0: the targets take none of its layers, but those of blocks without a number",
    ],
    [
      () => adapt(params, { rankPattern: { proj: 2 } }),
      'Cannot adapt by rankPattern "proj": it matches none of the 4 targets, such as model.layers.0.self_attn.q_proj',
    ],
    [
      () => adapt(params, { alphaPattern: { k_proj: 2 } }),
      'Cannot adapt by alphaPattern "k_proj": it matches none of the 4 targets, such as model.layers.0.self_attn.q_proj',
    ],
    [
      () => adapt(params, { parts: { k_proj: [true, false] } }),
      'Cannot select by "k_proj": it matches no layer; there are model.layers.*.self_attn.q_proj, model.layers.*.self_attn.v_proj',
    ],
    [
      () => adapt(params, { modulesToSave: "pooler" }),
      'Cannot select by "pooler": it matches no layer; there are ',
    ],
    [
      () => adapt(params, { modulesToSave: "embed_tokens" }),
      "Cannot save model.embed_tokens as a module: its table is the output head's weight too, which would stay as it is",
    ],
  ];
  for (const [call, message] of cases) {
    const error = assertThrows(call, TreeError);
    assertEquals(error.message.slice(0, message.length), message);
  }
  for (const parts of [[true], [false, false], [true, true, true]]) {
    assertThrows(
      () => adapt(params, { parts: { q_proj: parts } }),
      RangeError,
      `Cannot adapt model.layers.0.self_attn.q_proj by parts [${
        parts.join(", ")
      }]: its 8 outputs must fall into two equal parts or more, one of them true at least`,
    );
  }
  const key = random.key(0);
  assertThrows(
    () =>
      lora({ q: { weight: zeros([2, 2], { dtype: "i32" }) } }, {
        targets: "q",
        rank: 1,
        alpha: 1,
        key,
      }),
    TypeError,
    "Cannot adapt q of weight i32[2, 2] at rank 1: it must be of floats",
  );
  assertThrows(
    () => adapt(params, { alphaPattern: { q_proj: 0 } }),
    RangeError,
    "Cannot adapt with alpha 0: it must be a positive number",
  );
  assertThrows(
    () => adapt(params, { rankPattern: { q_proj: 9 } }),
    RangeError,
    "Cannot adapt model.layers.0.self_attn.q_proj of weight f32[8, 8] at rank 9: the rank must be an integer from 1 to 8",
  );
});
