/**
 * GPT-2: a decoder with learnt positions, and norms before attention and feed-forward layers.
 *
 * Letters: B batch, T time, C channels, H heads, D head size, L labels.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { split, type Tensor, type TensorLike } from "../../core/mod.ts";
import { conv1D } from "../conv1d.ts";
import { type Embedding, embedding } from "../embedding.ts";
import { layerNorm, type Norm } from "../norm.ts";
import { positions } from "../positions.ts";
import { widened } from "../quantized.ts";
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
import {
  checkGPT2Config,
  type FullGPT2Config,
  type GPT2Config,
} from "./gpt2_config.ts";
import {
  type GPT2BaseParams,
  type GPT2ClassifierParams,
  type GPT2Layer,
  type GPT2Params,
  gpt2Table,
} from "./gpt2_params.ts";
import { joinHeads, splitHeads } from "./heads.ts";
import type { ApplyOptions, CausalModel, Model } from "./model.ts";

/**
 * A GPT-2 from the fields of Hugging Face's config.json (Radford et al., "Language Models are Unsupervised Multitask
 * Learners").
 *
 * Positions count from `position` in every row, whatever the mask says, as in Hugging Face's forward pass. Its
 * `generate` counts real tokens alone: for rows that are padded on the left, a `position` of minus each row's padding
 * does the same. `reorder_and_upcast_attn` changes nothing, since all is computed in f32.
 *
 * Throws `FormatError` for a configuration that is incomplete or asks for what is not supported; a sequence longer than
 * n_positions is a `ShapeError`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, tensor } from "cotan";
 * import { gpt2 } from "cotan/nn";
 *
 * const model = gpt2({ vocab_size: 10, n_positions: 8, n_embd: 8, n_layer: 1, n_head: 2 });
 * const params = model.init(random.key(0));
 * const ids = tensor([[1, 2, 3]], { dtype: "i32" });
 * assertEquals(model.apply(params, ids).shape, [1, 3, 10]);
 * assertEquals(params.transformer.h[0]!.attn.c_attn.weight.shape, [8, 24]);
 * ```
 */
export function gpt2(config: GPT2Config): CausalModel<GPT2Params> {
  return causalModel(gpt2Decoder(config));
}

/**
 * A GPT-2 without a head, Hugging Face's GPT2Model: `apply` gives the last hidden state [B, T, C]. Paths are those of
 * `gpt2`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, tensor } from "cotan";
 * import { gpt2Model } from "cotan/nn";
 *
 * const model = gpt2Model({ vocab_size: 10, n_embd: 8, n_layer: 1, n_head: 2 });
 * const ids = tensor([[1, 2, 3]], { dtype: "i32" });
 * assertEquals(model.apply(model.init(random.key(0)), ids).shape, [1, 3, 8]);
 * ```
 */
export function gpt2Model(config: GPT2Config): Model<GPT2BaseParams> {
  return baseModel(gpt2Decoder(config));
}

/**
 * A GPT-2 that classifies sequences, Hugging Face's GPT2ForSequenceClassification: `apply` gives logits [B, L], read at
 * the last token that the mask says is real; without a mask, at the last that is not pad_token_id, or where the
 * configuration has none, at the last.
 *
 * L is num_labels, or as many as id2label names, or 2.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, tensor } from "cotan";
 * import { gpt2ForSequenceClassification } from "cotan/nn";
 *
 * const config = { vocab_size: 10, n_embd: 8, n_layer: 1, n_head: 2, num_labels: 3 };
 * const model = gpt2ForSequenceClassification(config);
 * const params = model.init(random.key(0));
 * const ids = tensor([[1, 2, 3], [4, 5, 0]], { dtype: "i32" });
 * const mask = tensor([[1, 1, 1], [1, 1, 0]], { dtype: "i32" });
 * assertEquals(model.apply(params, ids, { mask }).shape, [2, 3]);
 * ```
 */
export function gpt2ForSequenceClassification(
  config: GPT2Config,
): Model<GPT2ClassifierParams> {
  return decoderClassifier(gpt2Decoder(config));
}

function gpt2Decoder(config: GPT2Config): Decoder<GPT2BaseParams> {
  const full = checkGPT2Config(config);
  const { n_layer, n_head, n_embd } = full;
  const fields = { positions: "n_positions", blocks: "n_layer" };
  return {
    name: "GPT-2",
    config: full,
    fields,
    channels: n_embd,
    table: gpt2Table(full),
    deviation: full.initializer_range,
    cached: { blocks: n_layer, heads: n_head, size: n_embd / n_head },
    embedding: (params) => params.transformer.wte,
    states: ({ transformer }, ids, options) => {
      const { wte, wpe, h, ln_f } = transformer;
      const { position = 0, cache } = options;
      const x = embedding(wte, ids).add(places(wpe, position, ids.shape[1]!));
      const out = runBlocks(
        h,
        fields,
        n_layer,
        x,
        cache,
        (layer, x, held, i) => block(full, layer, x, options, held, i),
      );
      return {
        ...out,
        hidden: [...out.hidden, norm(full, ln_f, out.hidden.at(-1)!)],
      };
    },
  };
}

/** Embeddings of positions: [T, C] or [B, T, C]. */
function places(p: Embedding, position: TensorLike, time: number): Tensor {
  // A slice costs nothing, and its gradient is no scatter.
  return typeof position === "number" && position >= 0 && !p.lora
    ? widened(p.weight.slice([[position, position + time]]))
    : embedding(p, positions(position, time));
}

/** The i-th block. */
function block(
  config: FullGPT2Config,
  layer: GPT2Layer,
  x: Tensor,
  options: ApplyOptions,
  held: LayerCache | undefined,
  i: number,
): BlockOutput {
  const { n_head: H, n_embd: C } = config;
  const { ln_1, attn, ln_2, mlp } = layer;
  const fused = conv1D(attn.c_attn, norm(config, ln_1, x)); // [B, T, 3·C]
  const [q, k, v] = split(fused, [C, C, C], { axis: -1 })
    .map((part) => splitHeads(part, H)) as [Tensor, Tensor, Tensor];
  const scale = (config.scale_attn_weights ? Math.sqrt(H / C) : 1) /
    (config.scale_attn_by_inverse_layer_idx ? i + 1 : 1);
  const { seen, held: next } = attendCached(q, k, v, held, options, { scale });
  const mid = x.add(conv1D(attn.c_proj, joinHeads(seen)));
  const activation = activationOf(config.activation_function);
  const inner = activation(conv1D(mlp.c_fc, norm(config, ln_2, mid)));
  return { x: mid.add(conv1D(mlp.c_proj, inner)), held: next };
}

function norm(config: FullGPT2Config, p: Norm, x: Tensor): Tensor {
  return layerNorm(p, x, { eps: config.layer_norm_epsilon });
}
