/**
 * Models in GGUF files: their settings and names as Hugging Face has them.
 *
 * llama.cpp turns pairs of neighbours in its rotary embedding, Hugging Face the two halves of a head, so its converter
 * reorders the rows of queries and keys; and it stores what GPT-2 keeps as [in, out] the other way round.
 *
 * @module
 */

import {
  scope,
  type Tensor,
  type Tree,
  tree as trees,
} from "../../core/mod.ts";
import type { RawConfig } from "../models/mod.ts";
import { type Path, show } from "./files.ts";
import { type GgufFile, openGguf } from "./gguf_file.ts";
import { fail } from "./json.ts";
import type { LoadDType } from "./safetensors_data.ts";
import type { StoredTensor } from "./stream.ts";
import type { Weights } from "./weights.ts";

/** A model in a file, before its weights are read. */
export interface GgufModel {
  /** What config.json would hold. */
  readonly config: RawConfig;
  /** The tensors under Hugging Face's names, and with their shapes there. */
  readonly weights: Weights;
  /** Puts what was read into Hugging Face's order; the tensors it replaces are freed. */
  arrange(params: Tree): Tree;
}

/** What an architecture is called by llama.cpp, and by Hugging Face. */
interface Architecture {
  /** Settings, but for those that the tensors tell; `get` reads one of the architecture. */
  config(get: (key: string, fallback?: number) => number): RawConfig;
  /** Names outside the blocks. */
  readonly outer: Readonly<Record<string, string>>;
  /** Where the blocks are. */
  readonly blocks: string;
  /** Names of layers in a block. */
  readonly inner: Readonly<Record<string, string>>;
  /** Whether a tensor by Hugging Face's name is stored transposed. */
  isTransposed(name: string): boolean;
  /** Heads of a tensor whose rows are reordered, or null. */
  turnedHeads(name: string, config: RawConfig): number | null;
}

const architectures: Readonly<Record<string, Architecture>> = {
  llama: {
    config: (get) => {
      const heads = get("attention.head_count");
      const channels = get("embedding_length");
      return {
        architectures: ["LlamaForCausalLM"],
        model_type: "llama",
        hidden_size: channels,
        intermediate_size: get("feed_forward_length"),
        num_hidden_layers: get("block_count"),
        num_attention_heads: heads,
        num_key_value_heads: get("attention.head_count_kv", heads),
        head_dim: get("attention.key_length", channels / heads),
        max_position_embeddings: get("context_length"),
        rms_norm_eps: get("attention.layer_norm_rms_epsilon"),
        rope_theta: get("rope.freq_base", 10000),
      };
    },
    outer: {
      token_embd: "model.embed_tokens",
      output_norm: "model.norm",
      output: "lm_head",
    },
    blocks: "model.layers",
    inner: {
      attn_norm: "input_layernorm",
      attn_q: "self_attn.q_proj",
      attn_k: "self_attn.k_proj",
      attn_v: "self_attn.v_proj",
      attn_output: "self_attn.o_proj",
      ffn_norm: "post_attention_layernorm",
      ffn_gate: "mlp.gate_proj",
      ffn_up: "mlp.up_proj",
      ffn_down: "mlp.down_proj",
    },
    isTransposed: () => false,
    turnedHeads: (name, config) => {
      const [, which] = /\.([qk])_proj\.(?:weight|bias)$/.exec(name) ?? [];
      if (!which) return null;
      const key = which === "q" ? "num_attention_heads" : "num_key_value_heads";
      return config[key] as number;
    },
  },
  gpt2: {
    config: (get) => ({
      architectures: ["GPT2LMHeadModel"],
      model_type: "gpt2",
      n_embd: get("embedding_length"),
      n_inner: get("feed_forward_length"),
      n_layer: get("block_count"),
      n_head: get("attention.head_count"),
      n_positions: get("context_length"),
      layer_norm_epsilon: get("attention.layer_norm_epsilon"),
    }),
    outer: {
      token_embd: "transformer.wte",
      position_embd: "transformer.wpe",
      output_norm: "transformer.ln_f",
      output: "lm_head",
    },
    blocks: "transformer.h",
    inner: {
      attn_norm: "ln_1",
      attn_qkv: "attn.c_attn",
      attn_output: "attn.c_proj",
      ffn_norm: "ln_2",
      ffn_up: "mlp.c_fc",
      ffn_down: "mlp.c_proj",
    },
    isTransposed: (name) => /\.(?:c_attn|c_proj|c_fc)\.weight$/.test(name),
    turnedHeads: () => null,
  },
};

/** Reads the header of a file, and says how its weights become a model's. */
export async function loadGguf(
  path: Path,
  floats?: LoadDType,
): Promise<GgufModel> {
  const found = await openGguf(path, floats);
  const file = show(path);
  const kind = String(found.metadata["general.architecture"]);
  const architecture = Object.hasOwn(architectures, kind)
    ? architectures[kind]
    : undefined;
  if (!architecture) {
    const known = Object.keys(architectures).join(" and ");
    fail(file, `its architecture is ${kind}; read are ${known}`);
  }
  const config = configOf(found, kind, architecture, file);
  const stored = new Map<string, StoredTensor>();
  for (const [raw, one] of found.tensors) {
    const name = rename(architecture, raw);
    const shape = architecture.isTransposed(name)
      ? one.shape.toReversed()
      : one.shape;
    stored.set(name, { ...one, name, shape });
  }
  const arrange = (params: Tree): Tree =>
    trees.fromLeaves(
      params,
      trees.leaves(params).map(({ path, leaf }) =>
        rearrange(leaf, path, architecture, config)
      ),
    );
  return { config, weights: { file, stored }, arrange };
}

function configOf(
  { metadata, tensors }: GgufFile,
  kind: string,
  architecture: Architecture,
  file: string,
): RawConfig {
  const parts = Number(metadata["split.count"] ?? 1);
  if (parts > 1) fail(file, `it is one of ${parts} parts; merge them first`);
  const scaling = metadata[`${kind}.rope.scaling.type`] ?? "none";
  if (scaling !== "none") {
    fail(
      file,
      `its rotary embedding is scaled (${scaling}), which is not read`,
    );
  }
  const get = (key: string, fallback?: number): number => {
    const value = Number(metadata[`${kind}.${key}`] ?? fallback);
    if (Number.isFinite(value)) return value;
    return fail(file, `it has no number ${kind}.${key}`);
  };
  // A number that the file makes up must not become as many layers.
  const blocks = get("block_count");
  if (blocks > tensors.size) {
    fail(file, `it has ${tensors.size} tensors for ${blocks} blocks`);
  }
  const vocabulary = tensors.get("token_embd.weight")?.shape[0];
  if (vocabulary === undefined) fail(file, "it has no token_embd.weight");
  return {
    ...architecture.config(get),
    vocab_size: vocabulary,
    tie_word_embeddings: !tensors.has("output.weight"),
  };
}

/** Hugging Face's name of a tensor; one that is not known stays, and is listed as unused. */
function rename({ outer, blocks, inner }: Architecture, name: string): string {
  const [, block, layer, rest] =
    /^(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)$/.exec(name) ?? [];
  const names = block === undefined ? outer : inner;
  if (layer === undefined || !Object.hasOwn(names, layer)) return name;
  const path = block === undefined ? "" : `${blocks}.${block}.`;
  return `${path}${names[layer]}.${rest}`;
}

function rearrange(
  x: Tensor,
  path: string,
  architecture: Architecture,
  config: RawConfig,
): Tensor {
  const heads = architecture.turnedHeads(path, config);
  const isTransposed = architecture.isTransposed(path);
  if (heads === null && !isTransposed) return x;
  const arranged = scope(() => {
    // Read under the shape that it has in the end.
    if (isTransposed) return x.reshape(x.shape.toReversed()).transpose();
    const [rows, ...rest] = x.shape as [number, ...number[]];
    const size = rest.reduce((a, b) => a * b, 1);
    return x.reshape([heads!, rows / heads! / 2, 2, size])
      .transpose([0, 2, 1, 3]).reshape(x.shape);
  });
  x.dispose();
  return arranged;
}
