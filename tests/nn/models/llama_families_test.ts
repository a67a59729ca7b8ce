import { assert, assertEquals, assertThrows } from "@std/assert";
import { FormatError, random, type Tensor, tree } from "cotan";
import { llama, type LlamaConfig, type LlamaParams } from "cotan/nn";
import { checkLlamaConfig } from "../../../nn/models/llama_config.ts";
import { assertClose, ids, useOracle } from "../support.ts";

Deno.test.beforeAll(useOracle);

const config = {
  vocab_size: 11,
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 1,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 16,
  initializer_range: 0.5,
  rms_norm_eps: 1e-14,
};
const row = [1, 5, 2, 7, 3, 9, 0, 4];

/** Parameters with one leaf changed. */
function change(
  params: LlamaParams,
  wanted: string,
  f: (x: Tensor) => Tensor,
): LlamaParams {
  return tree.fromLeaves(
    params,
    tree.leaves(params).map(({ path, leaf }) =>
      path === wanted ? f(leaf) : leaf
    ),
  );
}

Deno.test("a sliding window shows a token as many tokens as it is wide", async () => {
  const model = llama({ ...config, model_type: "mistral", sliding_window: 3 });
  const plain = llama(config);
  const params = model.init(random.key(1));
  const logits = model.apply(params, ids([row]));
  // One layer sees no further, and only distances count.
  for (let t = 0; t < row.length; t++) {
    const seen = ids([row.slice(Math.max(0, t - 2), t + 1)]);
    const last = plain.apply(params, seen).slice([null, [-1, Infinity]]);
    await assertClose(logits.slice([null, [t, t + 1]]), await last.data());
  }
});

Deno.test("only Mistral has a window where the field is absent, and null is none", () => {
  const windows = (config: LlamaConfig): (number | null)[] =>
    checkLlamaConfig(config).blocks.map(({ window }) => window);
  const mistral = { ...config, model_type: "mistral", num_hidden_layers: 2 };
  assertEquals(windows(mistral), [4096, 4096]);
  assertEquals(windows({ ...mistral, sliding_window: null }), [null, null]);
  assertEquals(windows({ ...config, sliding_window: 3 }), [null]);
  assertEquals(windows({ ...config, model_type: "qwen2" }), [null]);
  assertEquals(windows({ ...config, model_type: "smollm3" }), [null]);
});

Deno.test("each fourth block of SmolLM3 does not rotate, unless the configuration says which", () => {
  const rotated = (fields: Partial<LlamaConfig>): boolean[] =>
    checkLlamaConfig({
      ...config,
      model_type: "smollm3",
      num_hidden_layers: 5,
      ...fields,
    }).blocks.map(({ isRotated }) => isRotated);
  assertEquals(rotated({}), [true, true, true, false, true]);
  assertEquals(
    rotated({ no_rope_layer_interval: 2 }),
    [true, false, true, false, true],
  );
  assertEquals(
    rotated({ no_rope_layers: [0, 1, 1, 1, 0] }),
    [false, true, true, true, false],
  );
});

Deno.test("in Qwen2 the blocks from max_window_layers on have the window, where use_sliding_window says so", async () => {
  const two = {
    ...config,
    num_hidden_layers: 2,
    model_type: "qwen2",
    sliding_window: 3,
    max_window_layers: 1,
  };
  const plain = llama(two), params = plain.init(random.key(1));
  /** Which blocks give something else than without windows. */
  const changed = async (fields: Partial<LlamaConfig>): Promise<number[]> => {
    const model = llama({ ...two, ...fields });
    const [a, b] = [model, plain].map((m) => m.hidden(params, ids([row])));
    const blocks: number[] = [];
    for (const i of [0, 1]) {
      // Of equal inputs, so that a block shows what it does itself.
      const gap = a![i + 1]!.sub(b![i + 1]!).abs().max();
      if (await gap.item() > 1e-6) blocks.push(i);
    }
    return blocks;
  };
  assertEquals(await changed({}), []);
  assertEquals(await changed({ use_sliding_window: true }), [1]);
  assertEquals(
    await changed({ use_sliding_window: true, max_window_layers: 2 }),
    [],
  );
  const types = ["full_attention", "sliding_attention"];
  assertEquals(
    await changed({
      use_sliding_window: true,
      max_window_layers: 2,
      layer_types: types,
    }),
    [1],
  );
});

Deno.test("Qwen2 has biases in queries, keys and values alone, and Qwen3 none unless it is told", () => {
  const biases = (config: LlamaConfig): string[] =>
    Object.keys(llama(config).shapes).filter((path) => path.endsWith("bias"))
      .map((path) => path.split(".").at(-2)!);
  const qkv = ["q_proj", "k_proj", "v_proj"];
  assertEquals(biases({ ...config, model_type: "qwen2" }), qkv);
  assertEquals(biases({ ...config, model_type: "qwen3" }), []);
  const told = { ...config, attention_bias: true };
  assertEquals(biases(told), [...qkv, "o_proj"]);
  assertEquals(biases({ ...told, model_type: "qwen3" }), [...qkv, "o_proj"]);
});

Deno.test("Qwen3 norms queries and keys head by head, so that their scale does not count", async () => {
  const model = llama({ ...config, model_type: "qwen3", head_dim: 6 });
  const { shapes } = model;
  assertEquals(shapes["model.layers.0.self_attn.q_norm.weight"], [6]);
  assertEquals(shapes["model.layers.0.self_attn.q_proj.weight"], [24, 8]);
  const params = model.init(random.key(1)), tokens = ids([row]);
  const plain = await model.apply(params, tokens).data();
  const at = "model.layers.0.self_attn";
  const head = change(
    params,
    `${at}.q_proj.weight`,
    (x) =>
      x.reshape([4, 6, 8]).mul(
        ids([[1, 2, 3, 4]]).cast("f32").reshape([4, 1, 1]),
      )
        .reshape([24, 8]),
  );
  await assertClose(model.apply(head, tokens), plain, { within: 1e-9 });
  const keys = change(params, `${at}.k_proj.weight`, (x) => x.mul(5));
  await assertClose(model.apply(keys, tokens), plain, { within: 1e-9 });
  const gain = change(params, `${at}.k_norm.weight`, (x) => x.mul(5));
  const gap = model.apply(gain, tokens).sub(model.apply(params, tokens)).abs();
  assert(await gap.max().item() > 1e-3);
  assertEquals(llama({ ...config, model_type: "qwen3" }).config.head_dim, 128);
});

Deno.test("a block of SmolLM3 without a rotation does not know the order of what came before", async () => {
  const smol = { ...config, model_type: "smollm3" };
  const turned = [...row.slice(0, -1).toReversed(), row.at(-1)!];
  for (const flag of [0, 1]) {
    const model = llama({ ...smol, no_rope_layers: [flag] });
    const params = model.init(random.key(1));
    const [a, b] = [row, turned].map((row) =>
      model.apply(params, ids([row])).slice([null, [-1, Infinity]])
    );
    const gap = await a!.sub(b!).abs().max().item();
    assert(flag === 0 ? gap < 1e-12 : gap > 1e-3, `${gap}`);
  }
  const four = llama({ ...smol, num_hidden_layers: 4 });
  assertEquals("lm_head.weight" in four.shapes, false);
});

Deno.test("the architecture tells the kin, else model_type, and others are errors", () => {
  const biased = (config: LlamaConfig): boolean =>
    "model.layers.0.self_attn.q_proj.bias" in llama(config).shapes;
  assertEquals(biased({ ...config, model_type: "qwen2" }), true);
  assertEquals(
    biased({ ...config, architectures: ["Qwen2ForCausalLM"] }),
    true,
  );
  const both = { ...config, model_type: "qwen2" };
  assertEquals(biased({ ...both, architectures: ["LlamaForCausalLM"] }), false);
  assertThrows(
    () => llama({ ...config, model_type: "gemma" }),
    FormatError,
    "Cannot build a Llama model of gemma: there are llama, mistral, qwen2, qwen3, smollm3",
  );
  assertThrows(
    () => llama({ ...config, model_type: "mistral", sliding_window: 0 }),
    FormatError,
    "Cannot build a Mistral model: sliding_window is 0, and must be a positive integer",
  );
  assertThrows(
    () => llama({ ...config, model_type: "smollm3", no_rope_layers: [1, 1] }),
    FormatError,
    "Cannot build a SmolLM3 model: no_rope_layers is [1,1], and must have an entry for each of 1 layers",
  );
});
