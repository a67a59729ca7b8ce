import {
  assert,
  assertEquals,
  assertNotEquals,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import {
  init,
  memory,
  random,
  ShapeError,
  tree,
  TreeError,
  zeros,
} from "../../core/mod.ts";
import { isAdapter, lora } from "../../lora/mod.ts";
import { adapt, baseParams, logits, pathsOf } from "./support.ts";

await init({ backend: "reference" });

const params = baseParams();

/** The adapted layers under a selector. */
function targets(selector: Parameters<typeof lora>[1]["targets"]): string[] {
  return pathsOf(adapt(params, { targets: selector }), /lora\.a$/)
    .map((path) => path.replace(/^model\.layers\.|\.lora\.a$/g, ""));
}

Deno.test("a fresh adapter changes no logit by a single bit", async () => {
  for (const rslora of [false, true]) {
    const tuned = adapt(params, { targets: "all-linear", rslora });
    assertEquals(await logits(tuned), await logits(params));
  }
});

Deno.test("everything but the adapters is shared with the model", () => {
  const tuned = adapt(params);
  const own = new Map(
    tree.leaves(tuned).map(({ path, leaf }) => [path, leaf]),
  );
  for (const { path, leaf } of tree.leaves(params)) {
    assertStrictEquals(own.get(path), leaf);
  }
  assertEquals(own.size, tree.leaves(params).length + 4 * 3);
  assertStrictEquals(tuned.model.layers[0]!.mlp, params.model.layers[0]!.mlp);
  assertEquals(pathsOf(params, /lora/), []);
});

Deno.test("a is uniform within 1/√in, or normal with deviation 1/rank; b is zero; the scale is alpha/rank or alpha/√rank", async () => {
  const wide = { w: { weight: zeros([64, 400]) } };
  const key = random.key(5);
  const make = (options: { init?: "kaiming" | "gaussian"; rslora?: boolean }) =>
    lora(wide, { targets: "w", rank: 16, alpha: 8, key, ...options })
      .w as unknown as {
        lora: Record<"a" | "b" | "scale", ReturnType<typeof zeros>>;
      };
  const kaiming = make({}).lora;
  const a = await kaiming.a.data() as Float32Array;
  const bound = 1 / Math.sqrt(400);
  assert(a.every((x) => Math.abs(x) <= bound));
  const deviation = (xs: Float32Array) =>
    Math.sqrt(xs.reduce((sum, x) => sum + x * x, 0) / xs.length);
  assert(Math.abs(deviation(a) / (bound / Math.sqrt(3)) - 1) < 0.03);
  assert((await kaiming.b.data()).every((x) => x === 0));
  assertEquals(await kaiming.scale.item(), 0.5);
  assertEquals(String(kaiming.a), "f32[16, 400]");
  assertEquals(String(kaiming.b), "f32[64, 16]");
  assertEquals(String(kaiming.scale), "f32[]");
  const gaussian = make({ init: "gaussian", rslora: true }).lora;
  const normal = await gaussian.a.data() as Float32Array;
  assert(Math.abs(deviation(normal) * 16 - 1) < 0.03);
  assertEquals(await gaussian.scale.item(), 2);
});

Deno.test("the key decides, each layer has its own values, and other targets do not change them", async () => {
  const values = async (selector: string[], seed: number) => {
    const tuned = adapt(params, { targets: selector, key: random.key(seed) });
    const [{ self_attn: first }, { self_attn: second }] = tuned.model
      .layers as [typeof tuned.model.layers[0], typeof tuned.model.layers[0]];
    return [
      await first.q_proj.lora!.a.data(),
      await second.q_proj.lora!.a.data(),
    ];
  };
  const one = await values(["q_proj"], 1);
  assertEquals(await values(["q_proj", "down_proj"], 1), one);
  assertNotEquals(one[0], one[1]);
  assertNotEquals((await values(["q_proj"], 2))[0], one[0]);
});

Deno.test("targets are last names, paths, globs, expressions over whole paths, lists, functions, or all linear layers", () => {
  const both = (name: string) => [`0.${name}`, `1.${name}`];
  assertEquals(targets("q_proj"), both("self_attn.q_proj"));
  assertEquals(targets("self_attn.q_proj"), both("self_attn.q_proj"));
  assertEquals(targets("model.layers.1.mlp.up_proj"), ["1.mlp.up_proj"]);
  assertEquals(targets("**.mlp.{up,down}_proj"), [
    "0.mlp.up_proj",
    "0.mlp.down_proj",
    "1.mlp.up_proj",
    "1.mlp.down_proj",
  ]);
  assertEquals(targets(/.*\.1\..*_proj/).length, 7);
  assertEquals(targets(["k_proj", /.*\.0\.mlp\.up_proj/]), [
    "0.self_attn.k_proj",
    "0.mlp.up_proj",
    "1.self_attn.k_proj",
  ]);
  assertEquals(
    targets((path, weight) => weight.shape[0] === 4 && path.includes(".0.")),
    ["0.self_attn.k_proj", "0.self_attn.v_proj"],
  );
  assertEquals(targets("all-linear").length, 14);
  const headed = {
    embed_tokens: { weight: zeros([9, 4]) },
    dense: { weight: zeros([4, 4]) },
    lm_head: { weight: zeros([9, 4]) },
  };
  const tuned = lora(headed, {
    targets: "all-linear",
    rank: 1,
    alpha: 1,
    key: random.key(0),
  });
  const adapted = tree.leaves(tuned).filter(({ path }) => isAdapter(path));
  assertEquals(adapted.map(({ path }) => path), [
    "dense.lora.a",
    "dense.lora.b",
  ]);
});

const layerNames = [
  "model.embed_tokens",
  "model.layers.*.input_layernorm",
  "model.layers.*.self_attn.q_proj",
  "model.layers.*.self_attn.k_proj",
  "model.layers.*.self_attn.v_proj",
  "model.layers.*.self_attn.o_proj",
  "model.layers.*.post_attention_layernorm",
  "model.layers.*.mlp.gate_proj",
  "model.layers.*.mlp.up_proj",
  "model.layers.*.mlp.down_proj",
  "model.norm",
].join(", ");

Deno.test("a target that takes nothing, or no linear layer, is refused", () => {
  const cases: [Parameters<typeof targets>[0], string][] = [
    [
      ["q_proj", "query"],
      `Cannot select by "query": it matches no layer; there are ${layerNames}`,
    ],
    [
      // PEFT matches the ends of paths, so a group of layers is none of them.
      "self_attn",
      `Cannot select by "self_attn": it matches no layer; there are ${layerNames}`,
    ],
    [
      /q_proj/,
      `Cannot select by /q_proj/: it matches no layer; there are ${layerNames}`,
    ],
    [
      () => false,
      "Cannot adapt: the targets take none of the 20 layers",
    ],
    [
      ["q_proj", "input_layernorm"],
      "Cannot adapt model.layers.0.input_layernorm: its weight is f32[8], and that of a linear layer is [out, in]",
    ],
  ];
  for (const [selector, message] of cases) {
    const error = assertThrows(() => targets(selector), TreeError);
    assertEquals(error.message, message);
  }
  assertThrows(
    () =>
      lora({ norm: { weight: zeros([2]) } }, {
        targets: "all-linear",
        rank: 1,
        alpha: 1,
        key: random.key(0),
      }),
    TreeError,
    "Cannot adapt: the targets take none of the 1 layers",
  );
});

Deno.test("ranks, alphas and options that make no sense are refused, and nothing is left behind", () => {
  const key = random.key(0);
  const before = memory().tensors;
  const at =
    "Cannot adapt model.layers.0.self_attn.q_proj of weight f32[8, 8] at rank";
  for (const rank of [0, -1, 1.5, 9, NaN]) {
    assertThrows(
      () => adapt(params, { key, rank }),
      ShapeError,
      `${at} ${rank}: the rank must be an integer from 1 to 8`,
    );
  }
  // Fits q, not v, of which the first is made by then.
  assertThrows(
    () => adapt(params, { key, rank: 5 }),
    ShapeError,
    "Cannot adapt model.layers.0.self_attn.v_proj of weight f32[4, 8] at rank 5: the rank must be an integer from 1 to 4",
  );
  for (const alpha of [0, -1, NaN, Infinity]) {
    assertThrows(
      () => adapt(params, { key, alpha }),
      RangeError,
      `Cannot adapt with alpha ${alpha}: it must be a positive number`,
    );
  }
  for (const dropout of [-0.1, 1, NaN]) {
    assertThrows(
      () => adapt(params, { key, dropout }),
      RangeError,
      `Cannot adapt with dropout ${dropout}: it must be at least 0 and below 1`,
    );
  }
  assertThrows(
    () => adapt(params, { key, init: "zero" as "kaiming" }),
    RangeError,
    'Cannot initialise adapters by "zero": there are "kaiming", "gaussian", "pissa" and "pissa_niter_4" with any number',
  );
  const tuned = adapt(params, { key });
  assertThrows(
    () => adapt(tuned, { key }),
    TreeError,
    "Cannot adapt model.layers.0.self_attn.q_proj: it has an adapter already; use mergeAdapters or dropAdapters first",
  );
  for (const { path, leaf } of tree.leaves(tuned)) {
    if (path.includes("lora")) leaf.dispose();
  }
  assert(memory().tensors <= before, "tensors leak");
});

Deno.test("the trainable half is exactly a and b of the targets, and merges back", () => {
  const tuned = adapt(params);
  const [trainable, frozen] = tree.partition(tuned, isAdapter);
  assertEquals(
    tree.leaves(trainable).map(({ path, leaf }) => `${path} ${leaf}`),
    [0, 1].flatMap((i) => {
      const at = `model.layers.${i}.self_attn`;
      return [
        `${at}.q_proj.lora.a f32[3, 8]`,
        `${at}.q_proj.lora.b f32[8, 3]`,
        `${at}.v_proj.lora.a f32[3, 8]`,
        `${at}.v_proj.lora.b f32[4, 3]`,
      ];
    }),
  );
  assertEquals(tree.leaves(frozen).length, 20 + 4);
  assertEquals(tree.merge(trainable, frozen), tuned);
});

Deno.test("paths of adapters are told from others, with a slice or a name in between", () => {
  for (
    const path of [
      "lora.a",
      "x.lora.b",
      "x.lora.0.a",
      "x.lora.tale.b",
      "x.lora.tale.0.b",
      "x.lora.slices.2.a",
      "x.lora.tale.slices.2.a",
      "x.lora.magnitude",
      "x.lora.0.magnitude",
      "x.lora.bias",
      "x.lora.weight",
      "x.lora.tale.weight",
    ]
  ) {
    assert(isAdapter(path), path);
  }
  for (
    const path of [
      "a",
      "lora",
      "x.lora.scale",
      "x.lora.0.scale",
      "x.lora.rank",
      "x.lora.ranks",
      "x.lora.from",
      "x.lora.tale.key",
      "x.lora.rate",
      "x.lora.rows",
      "x.weight",
      "x.bias",
      "x.weight.int8",
      "lora.a.b.a",
      "xlora.a",
      "lora.ab",
    ]
  ) {
    assert(!isAdapter(path), path);
  }
});
