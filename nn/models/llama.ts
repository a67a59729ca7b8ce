/**
 * Llama: a decoder with rotary positions, grouped queries, gated feed-forward layers and root-mean-square norms.
 *
 * Letters: B batch, T time, C channels, H heads, K key and value heads, D head size, L labels.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Tensor } from "../../core/mod.ts";
import { embedding } from "../embedding.ts";
import { linear } from "../linear.ts";
import { type Norm, rmsNorm } from "../norm.ts";
import { rope } from "../rope.ts";
import { activationOf } from "./activations.ts";
import type { LayerCache } from "./cache.ts";
import {
  attendCached,
  baseModel,
  type BlockOutput,
  causalModel,
  type Decoder,
  runBlocks,
} from "./decoder.ts";
import { decoderClassifier } from "./decoder_classifier.ts";
import { joinHeads, splitHeads } from "./heads.ts";
import type { BlockKind } from "./llama_blocks.ts";
import {
  checkLlamaConfig,
  type LlamaConfig,
  type LlamaSpec,
} from "./llama_config.ts";
import {
  type LlamaBaseParams,
  type LlamaClassifierParams,
  type LlamaLayer,
  type LlamaParams,
  llamaTable,
} from "./llama_params.ts";
import type { ApplyOptions, CausalModel, Model } from "./model.ts";

/**
 * A Llama from the fields of Hugging Face's config.json (Touvron et al., arXiv 2302.13971 and 2307.09288), or one of its
 * kin: Mistral (arXiv 2310.06825), Qwen2 (2407.10671), Qwen3 (2505.09388) or SmolLM3, as the first of `architectures` or
 * else `model_type` says.
 *
 * Throws `FormatError` for a configuration that is incomplete or asks for what is not supported, such as YaRN; a
 * sequence longer than max_position_embeddings is a `ShapeError`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, tensor } from "cotan";
 * import { llama } from "cotan/nn";
 *
 * const model = llama({
 *   vocab_size: 10,
 *   hidden_size: 8,
 *   intermediate_size: 16,
 *   num_hidden_layers: 1,
 *   num_attention_heads: 2,
 * });
 * const params = model.init(random.key(0));
 * const ids = tensor(Int32Array.of(1, 2, 3), { shape: [1, 3] });
 * assertEquals(model.apply(params, ids).shape, [1, 3, 10]);
 * ```
 */
export function llama(config: LlamaConfig): CausalModel<LlamaParams> {
  return causalModel(llamaDecoder(config));
}

/**
 * A Llama without a head, Hugging Face's LlamaModel: `apply` gives the last hidden state [B, T, C]. Paths are those of
 * `llama`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, tensor } from "cotan";
 * import { llamaModel } from "cotan/nn";
 *
 * const model = llamaModel({
 *   vocab_size: 10,
 *   hidden_size: 8,
 *   intermediate_size: 16,
 *   num_hidden_layers: 1,
 *   num_attention_heads: 2,
 * });
 * const ids = tensor([[1, 2, 3]], { dtype: "i32" });
 * assertEquals(model.apply(model.init(random.key(0)), ids).shape, [1, 3, 8]);
 * ```
 */
export function llamaModel(config: LlamaConfig): Model<LlamaBaseParams> {
  return baseModel(llamaDecoder(config));
}

/**
 * A Llama that classifies sequences, Hugging Face's LlamaForSequenceClassification: `apply` gives logits [B, L], read
 * where `gpt2ForSequenceClassification` reads them.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, tensor } from "cotan";
 * import { llamaForSequenceClassification } from "cotan/nn";
 *
 * const model = llamaForSequenceClassification({
 *   vocab_size: 10,
 *   hidden_size: 8,
 *   intermediate_size: 16,
 *   num_hidden_layers: 1,
 *   num_attention_heads: 2,
 *   num_labels: 3,
 * });
 * const ids = tensor([[1, 2, 3]], { dtype: "i32" });
 * assertEquals(model.apply(model.init(random.key(0)), ids).shape, [1, 3]);
 * ```
 */
export function llamaForSequenceClassification(
  config: LlamaConfig,
): Model<LlamaClassifierParams> {
  return decoderClassifier(llamaDecoder(config));
}

function llamaDecoder(config: LlamaConfig): Decoder<LlamaBaseParams> {
  const spec = checkLlamaConfig(config), full = spec.config;
  const fields = {
    positions: "max_position_embeddings",
    blocks: "num_hidden_layers",
  };
  const { length } = spec.blocks;
  return {
    name: spec.name,
    config: full,
    fields,
    channels: full.hidden_size,
    table: llamaTable(spec),
    deviation: full.initializer_range,
    cached: {
      blocks: length,
      heads: full.num_key_value_heads,
      size: full.head_dim,
    },
    embedding: (params) => params.model.embed_tokens,
    states: ({ model }, ids, options) => {
      const x = embedding(model.embed_tokens, ids); // [B, T, C]
      const run = runBlocks(
        model.layers,
        fields,
        length,
        x,
        options.cache,
        (layer, x, held, i) =>
          block(spec, spec.blocks[i]!, layer, x, options, held),
      );
      const last = norm(spec, model.norm, run.hidden.at(-1)!);
      return { ...run, hidden: [...run.hidden, last] };
    },
  };
}

function block(
  spec: LlamaSpec,
  kind: BlockKind,
  layer: LlamaLayer,
  x: Tensor,
  options: ApplyOptions,
  held: LayerCache | undefined,
): BlockOutput {
  const { out, held: next } = mix(spec, kind, layer, x, options, held);
  const mid = x.add(out);
  return { x: mid.add(feedForward(spec, layer, mid)), held: next };
}

/** Attention of a block: what is added to x, and the cache with the new keys and values where there is one. */
function mix(
  spec: LlamaSpec,
  { window, isRotated }: BlockKind,
  { input_layernorm, self_attn: p }: LlamaLayer,
  x: Tensor,
  options: ApplyOptions,
  held: LayerCache | undefined,
): { readonly out: Tensor; readonly held: LayerCache | undefined } {
  const { num_attention_heads: H, num_key_value_heads: K, rope_theta } =
    spec.config;
  const { position = 0 } = options;
  const turn = { base: rope_theta, position, scaling: spec.scaling };
  const prepare = (x: Tensor, gain: Norm | undefined): Tensor => {
    const normed = gain ? norm(spec, gain, x) : x;
    return isRotated ? rope(normed, turn) : normed;
  };
  const normed = norm(spec, input_layernorm, x);
  const q = splitHeads(linear(p.q_proj, normed), H); // [B, H, T, D]
  const keys = splitHeads(linear(p.k_proj, normed), K); // [B, K, T, D]
  const { seen, held: next } = attendCached(
    prepare(q, p.q_norm),
    prepare(keys, p.k_norm),
    splitHeads(linear(p.v_proj, normed), K),
    held,
    options,
    { ...(window !== null && { window }) },
  );
  return { out: linear(p.o_proj, joinHeads(seen)), held: next };
}

function feedForward(
  spec: LlamaSpec,
  { post_attention_layernorm, mlp }: LlamaLayer,
  x: Tensor,
): Tensor {
  const normed = norm(spec, post_attention_layernorm, x);
  const activation = activationOf(spec.config.hidden_act);
  const gate = activation(linear(mlp.gate_proj, normed));
  return linear(mlp.down_proj, gate.mul(linear(mlp.up_proj, normed)));
}

function norm({ config }: LlamaSpec, p: Norm, x: Tensor): Tensor {
  return rmsNorm(p, x, { eps: config.rms_norm_eps });
}
