import { assert, assertEquals, assertThrows } from "@std/assert";
import { FormatError, random, ShapeError, tensor, TreeError } from "cotan";
import { llama, type LlamaConfig, modelFromConfig } from "cotan/nn";
import { assertClose, ids, useOracle } from "../support.ts";

Deno.test.beforeAll(useOracle);

const config = {
  architectures: ["LlamaForCausalLM"],
  vocab_size: 11,
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 16,
  initializer_range: 0.5,
};
const model = llama(config);
const tokens = [[1, 5, 2, 7, 3], [4, 4, 9, 0, 10]];

Deno.test("biases and a tied head change the parameters as the configuration says", () => {
  const { shapes } = llama({
    ...config,
    attention_bias: true,
    mlp_bias: true,
    tie_word_embeddings: true,
  });
  assertEquals(shapes["model.layers.0.self_attn.v_proj.bias"], [4]);
  assertEquals(shapes["model.layers.0.mlp.down_proj.bias"], [8]);
  assertEquals(shapes["lm_head.weight"], undefined);
});

Deno.test("more than ten layers stay in order", () => {
  const deep = llama({ ...config, num_hidden_layers: 12 });
  const { layers } = deep.init(random.key(0)).model;
  assertEquals(layers.length, 12);
});

Deno.test("only distances between positions count", async () => {
  const params = model.init(random.key(1));
  const shifted = model.apply(params, ids(tokens), { position: 6 });
  const plain = await model.apply(params, ids(tokens)).data();
  await assertClose(shifted, plain, { within: 1e-10 });
});

Deno.test("a sequence or a cache beyond max_position_embeddings is an error", () => {
  const params = model.init(random.key(1));
  const long = ids([new Array(17).fill(1)]);
  assertThrows(
    () => model.apply(params, long),
    ShapeError,
    "Cannot apply the model to i32[1, 17]: 17 positions exceed max_position_embeddings 16",
  );
  assertThrows(
    () => model.apply(params, ids(tokens), { position: 12 }),
    ShapeError,
    "Cannot apply the model to i32[2, 5]: 17 positions exceed max_position_embeddings 16",
  );
  assertThrows(
    () => model.cache(1, 17),
    ShapeError,
    "Cannot make a cache of 17 positions: max_position_embeddings is 16",
  );
  assertThrows(
    () =>
      model.step(params, ids(tokens), {
        cache: model.cache(2, 6),
        position: 2,
      }),
    ShapeError,
    "Cannot write 5 positions from 2 on into a cache of 6: make it larger",
  );
});

Deno.test("ids of another dtype or rank, and layers that are missing, are errors", () => {
  const params = model.init(random.key(1));
  assertThrows(
    () => model.apply(params, tensor([[1, 2]])),
    TypeError,
    "Cannot apply the model to f32[1, 2]: ids are i32; use cast",
  );
  assertThrows(
    () => model.apply(params, tensor(Int32Array.of(1))),
    ShapeError,
    "Cannot apply the model to i32[1]: ids are [batch, time]",
  );
  const layers = params.model.layers.slice(1);
  assertThrows(
    () =>
      model.apply(
        { ...params, model: { ...params.model, layers } },
        ids(tokens),
      ),
    TreeError,
    "Cannot apply the model: there are parameters of 1 layers, and num_hidden_layers is 2",
  );
  assertThrows(
    () => model.apply({ model: params.model }, ids(tokens)),
    TreeError,
    "Cannot compute logits: there is no lm_head.weight, and tie_word_embeddings is false",
  );
});

Deno.test("a configuration says what is missing, wrong or not supported", () => {
  const { hidden_size: _, ...headless } = config;
  const cases: [Record<string, unknown>, string][] = [
    [headless, "config has no hidden_size"],
    [
      { ...config, vocab_size: 1.5 },
      "vocab_size is 1.5, and must be a positive integer",
    ],
    [
      { ...config, rms_norm_eps: "1e-5" },
      'rms_norm_eps is "1e-5", and must be a positive number',
    ],
    [{ ...config, mlp_bias: 1 }, "mlp_bias is 1, and must be true or false"],
    [
      { ...config, hidden_act: "mish" },
      'hidden_act is "mish", and only "gelu" or "gelu_new" or "gelu_pytorch_tanh" or "gelu_fast" or "quick_gelu" or "relu" or "silu" or "swish" or "tanh" is supported',
    ],
    [
      { ...config, num_key_value_heads: 3 },
      "num_attention_heads 4 does not divide by num_key_value_heads 3",
    ],
    [
      { ...config, head_dim: 3 },
      "the head size is 3, and must be an even integer",
    ],
    [
      { ...config, rope_scaling: { type: "dynamic", factor: 2 } },
      'rope_scaling.type is "dynamic", and only "default" or "linear" or "llama3" is supported',
    ],
    [
      { ...config, rope_parameters: { rope_type: "yarn", factor: 2 } },
      'rope_parameters.rope_type is "yarn", and only "default" or "linear" or "llama3" is supported',
    ],
    [
      { ...config, rope_scaling: { rope_type: "linear" } },
      "config has no rope_scaling.factor",
    ],
    [
      {
        ...config,
        rope_scaling: {
          rope_type: "llama3",
          factor: 8,
          low_freq_factor: 4,
          high_freq_factor: 4,
        },
      },
      "rope_scaling.low_freq_factor is 4, and must be below rope_scaling.high_freq_factor 4",
    ],
    [
      { ...config, partial_rotary_factor: 0.5 },
      "partial_rotary_factor is 0.5, and only 1 is supported",
    ],
    [
      { ...config, rope_parameters: { partial_rotary_factor: 0.5 } },
      "rope_parameters.partial_rotary_factor is 0.5, and only 1 is supported",
    ],
    [
      { ...config, quantization_config: {} },
      "quantization_config is {}, which is not supported",
    ],
  ];
  for (const [config, rule] of cases) {
    assertThrows(
      () => modelFromConfig(config),
      FormatError,
      `Cannot build a Llama model: ${rule}`,
    );
  }
});

Deno.test("null fields count as absent, and transformers 5 writes the base into rope_parameters", () => {
  const { config: full } = llama({
    ...config,
    rope_scaling: null,
    head_dim: null as unknown as number,
    rope_parameters: { rope_type: "default", rope_theta: 500 },
  });
  assertEquals([full.rope_theta, full.head_dim], [500, 2]);
});

Deno.test("the rotary embedding is scaled as the configuration says, in either form", async () => {
  const params = model.init(random.key(1));
  const by = async (fields: Partial<LlamaConfig>): Promise<number[]> => {
    const logits = llama({ ...config, ...fields }).apply(params, ids(tokens));
    return Array.from(await logits.data());
  };
  const linear = (factor: number) => ({ rope_type: "linear", factor });
  const gap = (a: number[], b: number[]): number =>
    a.reduce((m, v, i) => Math.max(m, Math.abs(v - b[i]!)), 0);
  const plain = await by({});
  assert(gap(await by({ rope_scaling: linear(1) }), plain) < 1e-12);
  const halved = await by({ rope_scaling: linear(2) });
  assert(gap(halved, plain) > 1e-3);
  assertEquals(
    await by({ rope_scaling: { type: "linear", factor: 2 } }),
    halved,
  );
  assertEquals(await by({ rope_parameters: linear(2) }), halved);
  assertEquals(
    await by({
      rope_theta: 7,
      rope_parameters: { ...linear(2), rope_theta: 10000 },
    }),
    await by({ rope_theta: 7, rope_scaling: linear(2) }),
  );
  // All wavelengths are long against so short an original length, and divided.
  const llama3 = {
    rope_type: "llama3",
    factor: 2,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 1,
  };
  assert(gap(await by({ rope_scaling: llama3 }), halved) < 1e-12);
});

Deno.test("a number of blocks that no model has is refused before memory is", () => {
  assertThrows(
    () => llama({ ...config, num_hidden_layers: 1e9 }),
    FormatError,
    "Cannot build a Llama model: num_hidden_layers is 1000000000, and must be a positive integer of at most 4096",
  );
});
