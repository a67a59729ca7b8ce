/**
 * Llama: a decoder with rotary positions, grouped queries, gated feed-forward layers and root-mean-square norms.
 *
 * Letters: B batch, T time, S cache capacity, C channels, H heads, K key and value heads, D head size, V vocabulary.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { scope, ShapeError, type Tensor, TreeError } from "../../core/mod.ts";
import { attention } from "../attention.ts";
import { embedding } from "../embedding.ts";
import { linear } from "../linear.ts";
import { rmsNorm } from "../norm.ts";
import { rope } from "../rope.ts";
import {
  type Cache,
  emptyCache,
  type LayerCache,
  writeCache,
} from "./cache.ts";
import {
  checkLlamaConfig,
  type FullLlamaConfig,
  type LlamaConfig,
} from "./llama_config.ts";
import { joinHeads, splitHeads } from "./heads.ts";
import { checkIds } from "./inputs.ts";
import type { ApplyOptions, CausalModel } from "./model.ts";
import {
  type LlamaLayer,
  type LlamaParams,
  llamaTable,
} from "./llama_params.ts";
import { initialize, shapesOf } from "./parameters.ts";

/**
 * A Llama from the fields of Hugging Face's config.json (Touvron et al., arXiv 2302.13971 and 2307.09288).
 *
 * Throws `FormatError` for a configuration that is incomplete or asks for what is not supported, such as scaled rotary
 * embeddings; a sequence longer than max_position_embeddings is a `ShapeError`.
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
  const full = checkLlamaConfig(config);
  const table = llamaTable(full);
  const limit = full.max_position_embeddings;

  function states(params: LlamaParams, ids: Tensor, options: ApplyOptions) {
    checkIds(ids, options.position ?? 0, limit);
    return decode(full, params, ids, options);
  }

  function step(params: LlamaParams, ids: Tensor, options: ApplyOptions) {
    return scope(() => {
      const { hidden, cache } = states(params, ids, options);
      return { logits: head(full, params, hidden.at(-1)!), cache };
    });
  }

  return {
    config: full,
    shapes: shapesOf(table),
    init: (key) =>
      initialize(table, key, full.initializer_range) as LlamaParams,
    apply: (params, ids, options = {}) =>
      scope(() => step(params, ids, options).logits),
    hidden: (params, ids, options = {}) =>
      scope(() => states(params, ids, options).hidden),
    cache: (batch, capacity) => {
      if (capacity > limit) {
        throw new ShapeError(
          `Cannot make a cache of ${capacity} positions: max_position_embeddings is ${limit}`,
        );
      }
      const { num_key_value_heads: K, head_dim: D } = full;
      return emptyCache(full.num_hidden_layers, [batch, K, capacity, D]);
    },
    step: (params, ids, options) => step(params, ids, options),
  };
}

/** The hidden states of a pass, and what the cache then holds; without a cache to go on from, that is empty. */
function decode(
  config: FullLlamaConfig,
  params: LlamaParams,
  ids: Tensor,
  options: ApplyOptions,
): { readonly hidden: Tensor[]; readonly cache: Cache } {
  const { embed_tokens, layers, norm } = params.model;
  if (layers.length !== config.num_hidden_layers) {
    throw new TreeError(
      `Cannot apply the model: there are parameters of ${layers.length} layers, and num_hidden_layers is ${config.num_hidden_layers}`,
    );
  }
  let x = embedding(embed_tokens, ids); // [B, T, C]
  const hidden = [x];
  const cache: LayerCache[] = [];
  layers.forEach((layer, i) => {
    const out = scope(() => block(config, layer, x, options, i));
    hidden.push(x = out.x);
    if (out.held) cache.push(out.held);
  });
  hidden.push(rmsNorm(norm, x, { eps: config.rms_norm_eps }));
  return { hidden, cache };
}

/** The i-th block: its output, and its cache with the new keys and values where there is one. */
function block(
  config: FullLlamaConfig,
  layer: LlamaLayer,
  x: Tensor,
  options: ApplyOptions,
  i: number,
): { readonly x: Tensor; readonly held: LayerCache | undefined } {
  const { out, held } = mix(config, layer, x, options, options.cache?.[i]);
  const mid = x.add(out);
  return { x: mid.add(feedForward(config, layer, mid)), held };
}

/** Attention of a block: what is added to x, and the cache with the new keys and values where there is one. */
function mix(
  config: FullLlamaConfig,
  { input_layernorm, self_attn: p }: LlamaLayer,
  x: Tensor,
  options: ApplyOptions,
  held: LayerCache | undefined,
): { readonly out: Tensor; readonly held: LayerCache | undefined } {
  const { num_attention_heads: H, num_key_value_heads: K } = config;
  const { mask = null, position = 0 } = options;
  const turn = (x: Tensor) => rope(x, { base: config.rope_theta, position });
  const normed = rmsNorm(input_layernorm, x, { eps: config.rms_norm_eps });
  const q = turn(splitHeads(linear(p.q_proj, normed), H)); // [B, H, T, D]
  const keys = turn(splitHeads(linear(p.k_proj, normed), K)); // [B, K, T, D]
  const values = splitHeads(linear(p.v_proj, normed), K);
  const next = held && {
    keys: writeCache(held.keys, keys, position),
    values: writeCache(held.values, values, position),
  };
  // Without a cache the keys begin where the queries do, wherever that is.
  const seen = next
    ? attention(q, next.keys, next.values, { causal: true, mask, position })
    : attention(q, keys, values, { causal: true, mask });
  return { out: linear(p.o_proj, joinHeads(seen)), held: next };
}

function feedForward(
  config: FullLlamaConfig,
  { post_attention_layernorm, mlp }: LlamaLayer,
  x: Tensor,
): Tensor {
  const eps = config.rms_norm_eps;
  const normed = rmsNorm(post_attention_layernorm, x, { eps });
  const gate = linear(mlp.gate_proj, normed).silu();
  return linear(mlp.down_proj, gate.mul(linear(mlp.up_proj, normed)));
}

/** Logits of the last hidden state. */
function head(
  config: FullLlamaConfig,
  params: LlamaParams,
  x: Tensor,
): Tensor {
  if (config.tie_word_embeddings) {
    return linear({ weight: params.model.embed_tokens.weight }, x);
  }
  if (params.lm_head) return linear(params.lm_head, x);
  throw new TreeError(
    "Cannot compute logits: there is no lm_head.weight, and tie_word_embeddings is false",
  );
}
