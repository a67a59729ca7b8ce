import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import fc from "fast-check";
import {
  FormatError,
  init,
  memory,
  random,
  type Tensor,
  tensor,
  tree,
} from "../../../core/mod.ts";
import { fromPretrained, type Pretrained } from "../../../nn/checkpoint/mod.ts";
import { loadGguf } from "../../../nn/checkpoint/gguf.ts";
import { openGguf } from "../../../nn/checkpoint/gguf_file.ts";
import { loadStored } from "../../../nn/checkpoint/stream.ts";
import { llama } from "../../../nn/models/mod.ts";
import { check } from "../../support/runs.ts";
import { encodeGguf, type GgufTensor } from "./gguf_writer.ts";
import {
  assertNoLeak,
  dispose,
  inFolder,
  isAbsent,
  shared,
} from "./support.ts";

await init({ backend: "reference" });

const F32 = 0, F16 = 1, Q8_0 = 8, BF16 = 30;

const names: Record<string, string> = {
  "model.embed_tokens": "token_embd",
  "model.norm": "output_norm",
  "lm_head": "output",
  "input_layernorm": "attn_norm",
  "self_attn.q_proj": "attn_q",
  "self_attn.k_proj": "attn_k",
  "self_attn.v_proj": "attn_v",
  "self_attn.o_proj": "attn_output",
  "post_attention_layernorm": "ffn_norm",
  "mlp.gate_proj": "ffn_gate",
  "mlp.up_proj": "ffn_up",
  "mlp.down_proj": "ffn_down",
};

/** The name that llama.cpp's converter gives. */
function ggufName(path: string): string {
  const [, block, layer, rest] =
    /^(?:model\.layers\.(\d+)\.)?(.+)\.(weight|bias)$/.exec(path)!;
  const prefix = block === undefined ? "" : `blk.${block}.`;
  return `${prefix}${names[layer!]!}.${rest}`;
}

/** Rows in the order of llama.cpp's converter: of each head the two halves alternate. */
function turned(
  values: ArrayLike<number>,
  [rows, columns]: readonly [number, number],
  heads: number,
): Float32Array {
  const out = new Float32Array(values.length);
  const size = rows / heads;
  for (let head = 0; head < heads; head++) {
    for (let half = 0; half < 2; half++) {
      for (let i = 0; i < size / 2; i++) {
        const from = head * size + half * size / 2 + i;
        const to = head * size + 2 * i + half;
        for (let c = 0; c < columns; c++) {
          out[to * columns + c] = values[from * columns + c]!;
        }
      }
    }
  }
  return out;
}

/** The file that llama.cpp's converter makes of a model. */
async function convert(
  { model: { config }, params }: Pick<Pretrained, "model" | "params">,
  typeOf: (path: string, shape: readonly number[]) => number,
): Promise<Uint8Array<ArrayBuffer>> {
  const get = (key: string): number => config[key] as number;
  const tensors: GgufTensor[] = [];
  for (const { path, leaf } of tree.leaves(params)) {
    const heads = path.includes("q_proj")
      ? get("num_attention_heads")
      : path.includes("k_proj")
      ? get("num_key_value_heads")
      : null;
    const data = await leaf.data();
    const values = heads === null
      ? data
      : turned(data, leaf.shape as [number, number], heads);
    const { shape } = leaf;
    const type = shape.length === 1 ? F32 : typeOf(path, shape);
    tensors.push({ name: ggufName(path), shape, type, values });
  }
  return encodeGguf({
    "general.architecture": "llama",
    "llama.context_length": config.max_position_embeddings,
    "llama.embedding_length": get("hidden_size"),
    "llama.block_count": get("num_hidden_layers"),
    "llama.feed_forward_length": get("intermediate_size"),
    "llama.attention.head_count": get("num_attention_heads"),
    "llama.attention.head_count_kv": get("num_key_value_heads"),
    "llama.attention.layer_norm_rms_epsilon": get("rms_norm_eps"),
    "llama.rope.freq_base": get("rope_theta"),
  }, tensors);
}

const config = {
  architectures: ["LlamaForCausalLM"],
  vocab_size: 9,
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  rope_theta: 1234.5,
};

async function assertSameLogits(
  expected: Pick<Pretrained, "model" | "params">,
  found: Pretrained,
  ids: Tensor,
  tolerance: number,
): Promise<void> {
  const [a, b] = await Promise.all(
    [expected, found].map(({ model, params }) =>
      model.apply(params, ids).data()
    ),
  );
  const largest = Math.max(...a!.map(Math.abs));
  const worst = Math.max(...a!.map((x, i) => Math.abs(x - b![i]!)));
  assert(worst <= tolerance * largest, `off by ${worst} of ${largest}`);
}

Deno.test("a Llama comes back from a GGUF file bit for bit, under its own names", async () => {
  await inFolder(async (folder) => {
    const before = memory().tensors;
    const model = llama(config);
    using key = random.key(1);
    const params = model.init(key);
    const path = `${folder}/model.gguf`;
    await Deno.writeFile(path, await convert({ model, params }, () => F32));
    const found = await fromPretrained(path);
    assertEquals(found.tokenizer, null);
    const { rms_norm_eps, ...rest } = found.config;
    assert(Math.abs(rms_norm_eps as number - 1e-6) < 1e-12);
    assertEquals(rest, {
      ...config,
      model_type: "llama",
      head_dim: 8,
      max_position_embeddings: 2048,
      tie_word_embeddings: false,
    });
    const expected = tree.leaves(params);
    for (const [i, { path, leaf }] of tree.leaves(found.params).entries()) {
      assertEquals(path, expected[i]!.path);
      assertEquals(await leaf.data(), await expected[i]!.leaf.data());
    }
    dispose([params as never, found.params]);
    assertNoLeak(before + 1);
    await assertRejects(
      () => fromPretrained(path, { tokenizer: true }),
      FormatError,
      `Cannot load a tokenizer from ${path}: those of GGUF files are not read; load the model without, and loadTokenizer from a folder`,
    );
  });
});

const stories = "data/stories260K/hf-converted";
Deno.test({
  name:
    "stories260K in F16, BF16 and Q8_0 computes the logits of its safetensors file within their rounding",
  ignore: isAbsent(stories),
  fn: async () => {
    const original = await fromPretrained(shared(stories));
    const ids = tensor([[1, 403, 407, 261, 378, 320, 415]], { dtype: "i32" });
    // The feed-forward layers' 172 channels are no multiple of 32.
    const blocks = (type: number) => (_: string, shape: readonly number[]) =>
      type === Q8_0 && shape.at(-1)! % 32 > 0 ? F16 : type;
    await inFolder(async (folder) => {
      for (
        const [type, tolerance] of [
          [F32, 1e-6],
          [F16, 2e-3],
          [BF16, 2e-2],
          [Q8_0, 2e-2],
        ] as const
      ) {
        const path = `${folder}/${type}.gguf`;
        await Deno.writeFile(path, await convert(original, blocks(type)));
        const found = await fromPretrained(path);
        await assertSameLogits(original, found, ids, tolerance);
        dispose(found.params);
      }
    });
  },
});

Deno.test("blocks of Q8_0 are scale times integer, however many there are", async () => {
  await inFolder(async (folder) => {
    const path = `${folder}/x.gguf`;
    // More than is read at once.
    const size = 32 * 40_000;
    const values = Float32Array.from(
      { length: size },
      (_, i) => (i * 37 % 255 - 127) * 2 ** -(i / 32 % 5 | 0),
    );
    // A largest element of 127 makes each scale a power of two, so that nothing is rounded.
    for (let i = 0; i < size; i += 32) values[i] = 127 * 2 ** -(i / 32 % 5);
    const x = { name: "x", shape: [size / 64, 64], type: Q8_0, values };
    await Deno.writeFile(path, encodeGguf({}, [x]));
    const { tensors } = await openGguf(path);
    const loaded = await loadStored([...tensors.values()]);
    assertEquals(loaded.x!.shape, x.shape);
    assertEquals(await loaded.x!.data(), values);
    dispose(loaded);
  });
});

Deno.test("GPT-2's names and settings are mapped, its matrices turned round, and a head of its own unties it", async () => {
  await inFolder(async (folder) => {
    const path = `${folder}/gpt2.gguf`;
    const of = (name: string, ...shape: number[]): GgufTensor => ({
      name,
      shape,
      type: F32,
      values: Array.from(
        { length: shape.reduce((a, b) => a * b) },
        (_, i) => i,
      ),
    });
    const settings = {
      "general.architecture": "gpt2",
      "gpt2.context_length": 8,
      "gpt2.embedding_length": 2,
      "gpt2.block_count": 1,
      "gpt2.feed_forward_length": 8,
      "gpt2.attention.head_count": 1,
      "gpt2.attention.layer_norm_epsilon": 0.5,
    };
    await Deno.writeFile(
      path,
      encodeGguf(settings, [
        of("token_embd.weight", 5, 2),
        of("position_embd.weight", 8, 2),
        of("blk.0.attn_norm.bias", 2),
        of("blk.0.attn_qkv.weight", 6, 2),
        of("blk.0.ffn_down.weight", 2, 8),
        of("output_norm.weight", 2),
        of("output.weight", 5, 2),
      ]),
    );
    const { config, weights, arrange } = await loadGguf(path);
    assertEquals(config, {
      architectures: ["GPT2LMHeadModel"],
      model_type: "gpt2",
      n_embd: 2,
      n_inner: 8,
      n_layer: 1,
      n_head: 1,
      n_positions: 8,
      layer_norm_epsilon: 0.5,
      vocab_size: 5,
      tie_word_embeddings: false,
    });
    const shapes = [...weights.stored.values()].map(({ name, shape }) => [
      name,
      shape,
    ]);
    assertEquals(shapes, [
      ["transformer.wte.weight", [5, 2]],
      ["transformer.wpe.weight", [8, 2]],
      ["transformer.h.0.ln_1.bias", [2]],
      ["transformer.h.0.attn.c_attn.weight", [2, 6]],
      ["transformer.h.0.mlp.c_proj.weight", [8, 2]],
      ["transformer.ln_f.weight", [2]],
      ["lm_head.weight", [5, 2]],
    ]);
    const name = "transformer.h.0.attn.c_attn.weight";
    const loaded = await loadStored([weights.stored.get(name)!]);
    const attn = { c_attn: { weight: loaded[name]! } };
    const arranged = arrange({ transformer: { h: [{ attn }] } });
    assertEquals(await tree.leaves(arranged)[0]!.leaf.toArray(), [
      [0, 2, 4, 6, 8, 10],
      [1, 3, 5, 7, 9, 11],
    ]);
  });
});

async function refusal(bytes: Uint8Array): Promise<string> {
  let message = "";
  await inFolder(async (folder) => {
    const path = `${folder}/x.gguf`;
    await Deno.writeFile(path, bytes);
    const error = await assertRejects(() => fromPretrained(path), FormatError);
    message = error.message.replace(path, "x.gguf");
  });
  return message;
}

const row = (type: number, name = "token_embd.weight", columns = 32) => ({
  name,
  shape: [1, columns],
  type,
  values: new Float32Array(columns - columns % 32),
});

Deno.test("other types, architectures and what is malformed are refused by name", async () => {
  const llama = { "general.architecture": "llama" };
  const at = "Cannot read x.gguf:";
  assertEquals(
    await refusal(encodeGguf(llama, [row(12)])),
    `${at} tensor "token_embd.weight" has type Q4_K; read are F32, F16, BF16, Q8_0`,
  );
  assertEquals(
    await refusal(encodeGguf(llama, [row(99)])),
    `${at} tensor "token_embd.weight" has type 99; read are F32, F16, BF16, Q8_0`,
  );
  assertEquals(
    await refusal(encodeGguf(llama, [row(Q8_0, "x", 33)])),
    `${at} tensor "x" of type Q8_0 has shape [1, 33]`,
  );
  assertEquals(
    await refusal(encodeGguf(llama, [row(F32), row(F32)])),
    `${at} it has two of tensor "token_embd.weight"`,
  );
  assertEquals(
    await refusal(encodeGguf(llama, [row(F32)]).slice(0, -32)),
    `${at} tensor "token_embd.weight" ends at byte 256 of 224`,
  );
  assertEquals(
    await refusal(encodeGguf({ "general.architecture": "rwkv" }, [])),
    `${at} its architecture is rwkv; read are llama and gpt2`,
  );
  assertEquals(
    await refusal(encodeGguf({}, [])),
    `${at} its architecture is undefined; read are llama and gpt2`,
  );
  const settings = { ...llama, "llama.block_count": 1 };
  assertEquals(
    await refusal(encodeGguf(llama, [row(F32)])),
    `${at} it has no number llama.block_count`,
  );
  assertEquals(
    await refusal(encodeGguf({ ...settings, "llama.block_count": 7 }, [])),
    `${at} it has 0 tensors for 7 blocks`,
  );
  assertEquals(
    await refusal(encodeGguf(settings, [row(F32, "x")])),
    `${at} it has no token_embd.weight`,
  );
  assertEquals(
    await refusal(encodeGguf({ ...llama, "split.count": 3 }, [])),
    `${at} it is one of 3 parts; merge them first`,
  );
  assertEquals(
    await refusal(
      encodeGguf({ ...llama, "llama.rope.scaling.type": "yarn" }, []),
    ),
    `${at} its rotary embedding is scaled (yarn), which is not read`,
  );
  assertMatch(
    await refusal(new TextEncoder().encode("GGML and more than that")),
    /^Cannot read x\.gguf: the gguf library refuses it \(not a valid gguf file/,
  );
  assertMatch(await refusal(new Uint8Array(0)), /^Cannot read x\.gguf: /);
});

Deno.test("no mutated GGUF file does anything but load or throw a FormatError", async () => {
  const model = llama({ ...config, num_hidden_layers: 1 });
  const params = model.init(random.key(2));
  const valid = await convert({ model, params }, () => Q8_0);
  dispose(params);
  await inFolder(async (folder) => {
    const path = `${folder}/x.gguf`;
    await check(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(1200), fc.nat(255)), {
          minLength: 1,
          maxLength: 3,
        }),
        fc.option(fc.nat(valid.length)),
        async (changes, length) => {
          const bytes = valid.slice(0, length ?? valid.length);
          for (const [at, value] of changes) bytes[at] = value;
          await Deno.writeFile(path, bytes);
          try {
            dispose((await fromPretrained(path)).params);
          } catch (error) {
            assert(error instanceof FormatError, String(error));
          }
        },
      ),
      80,
      [[[[174, 2]], null]],
    );
  });
});
