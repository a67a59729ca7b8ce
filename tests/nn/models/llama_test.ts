import {
  assert,
  assertEquals,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import {
  FormatError,
  grad,
  jit,
  memory,
  random,
  ShapeError,
  type Tensor,
  tensor,
  tree,
  TreeError,
} from "cotan";
import { type Cache, llama, modelFromConfig } from "cotan/nn";
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

Deno.test("init gives the parameters under Hugging Face's names, the same for a key", async () => {
  const params = model.init(random.key(1));
  const found = tree.leaves(params).map(({ path, leaf }) => [path, leaf.shape]);
  assertEquals(Object.fromEntries(found), model.shapes);
  assertEquals(found[1], ["model.layers.0.input_layernorm.weight", [8]]);
  assertEquals(model.shapes["model.layers.1.self_attn.k_proj.weight"], [4, 8]);
  assertEquals(model.shapes["lm_head.weight"], [11, 8]);
  assert(Array.isArray(params.model.layers));
  const again = model.init(random.key(1)).lm_head!.weight;
  assertEquals(await again.data(), await params.lm_head!.weight.data());
});

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

Deno.test("hidden gives the embedding, each block, and the last norm, and apply the logits", async () => {
  const params = model.init(random.key(1));
  const hidden = model.hidden(params, ids(tokens));
  assertEquals(hidden.map(({ shape }) => shape), new Array(4).fill([2, 5, 8]));
  const logits = model.apply(params, ids(tokens));
  const expected = hidden[3]!.matmul(params.lm_head!.weight.transpose());
  await assertClose(logits, await expected.data(), { shape: [2, 5, 11] });
});

Deno.test("a token does not see those after it, nor masked ones before it", async () => {
  const params = model.init(random.key(1));
  const all = await model.apply(params, ids(tokens)).data();
  const cut = tokens.map((row) => row.slice(0, 3));
  const start = await model.apply(params, ids(cut)).data();
  assertEquals(start.subarray(0, 33), all.subarray(0, 33));
  const mask = ids([[1, 0, 1, 1, 1], [1, 1, 1, 1, 1]]);
  const other = tokens.map((row) => row.map((id, t) => t === 1 ? 8 : id));
  const [a, b] = [tokens, other].map((rows) =>
    model.apply(params, ids(rows), { mask }).slice([[0, 1], [2, 5]])
  );
  await assertClose(a!, await b!.data());
});

Deno.test("only distances between positions count", async () => {
  const params = model.init(random.key(1));
  const shifted = model.apply(params, ids(tokens), { position: 6 });
  const plain = await model.apply(params, ids(tokens)).data();
  await assertClose(shifted, plain, { within: 1e-10 });
});

Deno.test("steps with a cache give the logits of the whole, in any pieces", async () => {
  const params = model.init(random.key(1));
  const whole = model.apply(params, ids(tokens));
  using step = jit(
    (cache: Cache, ids: Tensor, position: Tensor) =>
      model.step(params, ids, { cache, position }),
    { donate: [0] },
  );
  for (const widths of [[1, 1, 1, 1, 1], [3, 2], [5], [2, 1, 2]]) {
    let cache = model.cache(2, 7), at = 0;
    for (const width of widths) {
      const piece = tokens.map((row) => row.slice(at, at + width));
      const position = tensor(at, { dtype: "i32" });
      const out = step(cache, ids(piece), position);
      const expected = whole.slice([null, [at, at + width]]);
      await assertClose(out.logits, await expected.data());
      cache = out.cache;
      at += width;
    }
    const reads = model.apply(params, ids([[6], [6]]), { cache, position: 5 });
    const longer = tokens.map((row) => [...row, 6]);
    const last = model.apply(params, ids(longer)).slice([null, [5, 6]]);
    await assertClose(reads, await last.data());
  }
});

Deno.test("rows of a batch may be at positions of their own", async () => {
  const params = model.init(random.key(1));
  // Row 0 holds three tokens when row 1 holds one; then both take two more.
  let cache = model.cache(2, 7);
  ({ cache } = model.step(params, ids(tokens.map((row) => row.slice(0, 3))), {
    cache,
    position: 0,
  }));
  const next = ids([tokens[0]!.slice(3, 5), tokens[1]!.slice(1, 3)]);
  const position = tensor(Int32Array.of(3, 1));
  const { logits } = model.step(params, next, { cache, position });
  const whole = model.apply(params, ids(tokens));
  await assertClose(
    logits.slice([[0, 1]]),
    await whole.slice([[0, 1], [3, 5]]).data(),
  );
  await assertClose(
    logits.slice([[1, 2]]),
    await whole.slice([[1, 2], [1, 3]]).data(),
  );
});

Deno.test("one program serves a step at every position, and writes a donated cache in place", () => {
  const params = model.init(random.key(1)), token = ids([[1]]);
  using step = jit(
    (cache: Cache, position: Tensor) =>
      model.step(params, token, { cache, position }),
    { donate: [0] },
  );
  const start = model.cache(1, 7);
  const position = tensor(0, { dtype: "i32" });
  // Keys and values of two layers, and the logits.
  assertStringIncludes(
    String(step.program(start, position)),
    "5 outputs of which 4 in place",
  );
  let cache = step(start, position).cache;
  const { programs, liveBytes } = memory();
  for (let at = 1; at < 7; at++) {
    const out = step(cache, tensor(at, { dtype: "i32" }));
    out.logits.dispose();
    cache = out.cache;
  }
  assertEquals(memory().programs, programs);
  assert(memory().liveBytes - liveBytes <= 6 * 4, "only positions are new");
});

Deno.test("a step hides cached tokens that a mask says are padding", async () => {
  const params = model.init(random.key(1));
  const mask = ids([[1, 1, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1]]);
  const out = model.step(params, ids(tokens), {
    cache: model.cache(2, 6),
    position: 0,
    mask,
  });
  const cut = mask.slice([null, [0, 5]]);
  const whole = model.apply(params, ids(tokens), { mask: cut });
  await assertClose(out.logits, await whole.data());
});

Deno.test("every parameter has a gradient", async () => {
  const params = model.init(random.key(1));
  using slope = jit((p: typeof params) =>
    grad((p: typeof params) => model.apply(p, ids(tokens)).square().mean())(p)
  );
  for (const { path, leaf } of tree.leaves(slope(params))) {
    const g = await leaf.data();
    assert(g.every(Number.isFinite) && g.some((v) => v !== 0), path);
  }
});

Deno.test("outside jit a pass frees what it makes but its result", () => {
  const params = model.init(random.key(1)), input = ids(tokens);
  const before = memory().tensors;
  model.apply(params, input).dispose();
  for (const state of model.hidden(params, input)) state.dispose();
  assertEquals(memory().tensors, before);
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
