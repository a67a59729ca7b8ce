import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  concat,
  FormatError,
  iota,
  jit,
  random,
  ShapeError,
  type Tensor,
  tree,
} from "cotan";
import {
  gpt2,
  type GPT2Config,
  type GPT2Params,
  modelFromConfig,
} from "cotan/nn";
import { assertClose, ids, useOracle } from "../support.ts";

Deno.test.beforeAll(useOracle);

const config = {
  architectures: ["GPT2LMHeadModel"],
  vocab_size: 11,
  n_positions: 16,
  n_embd: 8,
  n_layer: 2,
  n_head: 2,
  initializer_range: 0.5,
};
const model = gpt2(config);
const tokens = [[1, 5, 2, 7, 3], [4, 4, 9, 0, 10]];

Deno.test("parameters have Hugging Face's names and the orientation of Conv1D", () => {
  assertEquals(Object.entries(model.shapes).slice(0, 15), [
    ["transformer.wte.weight", [11, 8]],
    ["transformer.wpe.weight", [16, 8]],
    ["transformer.h.0.ln_1.weight", [8]],
    ["transformer.h.0.ln_1.bias", [8]],
    ["transformer.h.0.attn.c_attn.weight", [8, 24]],
    ["transformer.h.0.attn.c_attn.bias", [24]],
    ["transformer.h.0.attn.c_proj.weight", [8, 8]],
    ["transformer.h.0.attn.c_proj.bias", [8]],
    ["transformer.h.0.ln_2.weight", [8]],
    ["transformer.h.0.ln_2.bias", [8]],
    ["transformer.h.0.mlp.c_fc.weight", [8, 32]],
    ["transformer.h.0.mlp.c_fc.bias", [32]],
    ["transformer.h.0.mlp.c_proj.weight", [32, 8]],
    ["transformer.h.0.mlp.c_proj.bias", [8]],
    ["transformer.h.1.ln_1.weight", [8]],
  ]);
  assertEquals(Object.keys(model.shapes).slice(-2), [
    "transformer.ln_f.weight",
    "transformer.ln_f.bias",
  ]);
  const untied = gpt2({ ...config, n_inner: 20, tie_word_embeddings: false });
  assertEquals(untied.shapes["lm_head.weight"], [11, 8]);
  assertEquals(untied.shapes["transformer.h.0.mlp.c_fc.weight"], [8, 20]);
  assertEquals(model.config.max_position_embeddings, 16);
});

Deno.test("init draws weights of initializer_range, those into the residual smaller by √(2 · n_layer)", async () => {
  const wide = gpt2({ vocab_size: 1000, n_embd: 64, n_layer: 8, n_head: 2 });
  for (const { path, leaf } of tree.leaves(wide.init(random.key(3)))) {
    const data = await leaf.data();
    if (!/\.(?:wte|wpe|c_\w+)\.weight$/.test(path)) {
      const value = path.endsWith("weight") ? 1 : 0;
      assert(data.every((v) => v === value), path);
      continue;
    }
    const deviation = 0.02 / (path.endsWith("c_proj.weight") ? 4 : 1);
    const square = await leaf.square().mean().item();
    // Four standard errors of the deviation.
    const within = 4 / Math.sqrt(2 * data.length);
    const share = Math.sqrt(square) / deviation;
    assert(Math.abs(share - 1) < within, `${path}: ${share}`);
  }
});

Deno.test("positions count from the offset, given as a number or traced", async () => {
  const params = model.init(random.key(1)), x = ids(tokens);
  const at = (position: number | Tensor): Tensor =>
    model.hidden(params, x, { position })[0]!;
  const { wte, wpe } = params.transformer;
  const expected = wte.weight.take(x).add(wpe.weight.slice([[3, 8]]));
  await assertClose(at(3), await expected.data());
  await assertClose(at(ids([[3]]).reshape([])), await expected.data());
  const rows = at(ids([[3, 0]]).reshape([2]));
  const second = wte.weight.take(x).add(wpe.weight.slice([[0, 5]]));
  await assertClose(
    rows.slice([[0, 1]]),
    await expected.slice([[0, 1]]).data(),
  );
  await assertClose(rows.slice([[1, 2]]), await second.slice([[1, 2]]).data());
});

/** Parameters with the queries of the i-th block multiplied by a factor. */
function withQueries(
  params: GPT2Params,
  factor: (i: number) => number,
): GPT2Params {
  const leaves = tree.leaves(params).map(({ path, leaf }) => {
    const [, i] = path.match(/h\.(\d+)\.attn\.c_attn\./) ?? [];
    if (i === undefined) return leaf;
    const [q, k, v] = leaf.split([8, 8, 8], { axis: -1 });
    return concat([q!.mul(factor(Number(i))), k!, v!], { axis: -1 });
  });
  return tree.fromLeaves(params, leaves);
}

Deno.test("scores are scaled by the root of the head size and the number of the block, as the configuration says", async () => {
  const params = model.init(random.key(1));
  const cases: [Partial<GPT2Config>, (i: number) => number][] = [
    [{ scale_attn_weights: true }, () => 1],
    [{ scale_attn_weights: false }, () => Math.sqrt(4)],
    [{ scale_attn_by_inverse_layer_idx: true }, (i) => 1 / (i + 1)],
  ];
  for (const [fields, factor] of cases) {
    const logits = gpt2({ ...config, ...fields }).apply(params, ids(tokens));
    const scaled = withQueries(params, factor);
    const expected = model.apply(scaled, ids(tokens));
    await assertClose(logits, await expected.data());
  }
});

Deno.test("the activation is the configuration's, gelu_new where it names none", async () => {
  const params = model.init(random.key(1));
  const by = (activation_function?: string): Promise<ArrayLike<number>> =>
    gpt2({ ...config, ...(activation_function && { activation_function }) })
      .apply(params, ids(tokens)).data();
  const plain = await by();
  assertEquals(await by("gelu_new"), plain);
  for (const name of ["gelu", "relu", "silu"]) {
    const other = await by(name);
    assert(Array.from(other).some((v, i) => Math.abs(v - plain[i]!) > 1e-6));
  }
});

Deno.test("queries, keys and values are views of one product", () => {
  const params = model.init(random.key(1));
  using pass = jit((params: GPT2Params, x: Tensor) => model.apply(params, x));
  const program = String(pass.program(params, ids(tokens)));
  assert(!/map .* copy/.test(program), program);
});

Deno.test("a sequence beyond n_positions, and layers that are missing, are errors", () => {
  const params = model.init(random.key(1));
  assertThrows(
    () => model.apply(params, ids([new Array(17).fill(1)])),
    ShapeError,
    "Cannot apply the model to i32[1, 17]: 17 positions exceed n_positions 16",
  );
  assertThrows(
    () => model.cache(1, 17),
    ShapeError,
    "Cannot make a cache of 17 positions: n_positions is 16",
  );
  const { transformer } = params;
  const short = { transformer: { ...transformer, h: [] } };
  assertThrows(
    () => model.apply(short, ids(tokens)),
    TypeError,
    "Cannot apply the model: there are parameters of 0 layers, and n_layer is 2",
  );
});

Deno.test("a configuration says what is missing, wrong or not supported", () => {
  const { n_embd: _, ...narrow } = config;
  const cases: [Record<string, unknown>, string][] = [
    [narrow, "config has no n_embd"],
    [{ ...config, n_head: 3 }, "n_embd 8 does not divide by n_head 3"],
    [
      { ...config, activation_function: "mish" },
      'activation_function is "mish", and only "gelu" or "gelu_new" or "gelu_pytorch_tanh" or "gelu_fast" or "quick_gelu" or "relu" or "silu" or "swish" or "tanh" is supported',
    ],
    [
      { ...config, add_cross_attention: true },
      "add_cross_attention is true, and only false is supported",
    ],
    [
      { ...config, scale_attn_weights: 1 },
      "scale_attn_weights is 1, and must be true or false",
    ],
    [
      { ...config, n_positions: 1.5 },
      "n_positions is 1.5, and must be a positive integer",
    ],
  ];
  for (const [config, rule] of cases) {
    assertThrows(
      () => modelFromConfig(config),
      FormatError,
      `Cannot build a GPT-2 model: ${rule}`,
    );
  }
});

Deno.test("matrices of halves give what they give widened", async () => {
  const narrow = tree.map(
    (x: Tensor) => x.shape.length === 2 ? x.cast("bf16") : x,
    model.init(random.key(0)),
  );
  const wide = tree.map((x: Tensor) => x.cast("f32"), narrow);
  for (const position of [0, iota([2])]) {
    const [actual, expected] = [narrow, wide].map((params) =>
      model.apply(params, ids(tokens), { position })
    );
    await assertClose(actual!, await expected!.data());
  }
});
