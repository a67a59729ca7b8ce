/**
 * Prefix tuning: vectors before the text are all that learns (Li and Liang, arXiv 2101.00190).
 *
 * Letters: B batch, T time, P length of the prefix, V vocabulary, C channels, K key and value heads, D head size.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  concat,
  format,
  iota,
  random,
  scope,
  ShapeError,
  type Tensor,
  type Tree,
  tree as trees,
  TreeError,
  zeros,
} from "../core/mod.ts";
import type {
  ApplyOptions,
  Cache,
  CausalModel,
  LayerCache,
} from "../nn/models/mod.ts";
import { dense } from "../nn/quantized.ts";
import { isTokenTable, layersOf, mapLayers } from "./layers.ts";

/** How a prefix starts. */
export interface PrefixOptions {
  /** P. */
  readonly length: number;
  /** Key for the first values. */
  readonly key: Tensor;
}

/**
 * The model with P virtual tokens: vectors beside the table of token embeddings, with the ids V..V + P - 1, which
 * `prefixTokens` puts before a text. They start as rows of the table, those of ids drawn at random, as the LoRA paper's
 * prefix-embedding tuning starts from words.
 *
 * Throws `RangeError` for a length below 1, and `TreeError` for a tree with no table of tokens, or with a prefix.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { ones, random, tensor } from "cotan";
 * import { embeddingPrefix, prefixTokens } from "cotan/lora";
 * import { embedding } from "cotan/nn";
 *
 * const params = { wte: { weight: ones([10, 4]) } };
 * const { wte } = embeddingPrefix(params, { length: 2, key: random.key(0) });
 * const ids = prefixTokens(tensor(Int32Array.of(3), { shape: [1, 1] }), { length: 2, vocabSize: 10 });
 * assertEquals(await ids.toArray(), [[10, 11, 3]]);
 * assertEquals(embedding(wte, ids).shape, [1, 3, 4]);
 * ```
 */
export function embeddingPrefix<T extends Tree>(
  params: T,
  { length, key }: PrefixOptions,
): T {
  checkLength(length);
  const [table] = layersOf(params).filter(isTokenTable);
  if (!table) {
    throw new TreeError(
      "Cannot add a prefix: the tree has no table of token embeddings",
    );
  }
  if (table.node.prefix) {
    throw new TreeError(`Cannot add a prefix: ${table.path} has one already`);
  }
  return scope(() =>
    mapLayers(params, ({ path, node, weight, shape: [V] }) => {
      if (path !== table.path) return node;
      const ids = random.randint(key, [length], { high: V! });
      return { ...node, prefix: dense(weight).take(ids) };
    })
  );
}

/**
 * Ids [B, P + T] of virtual tokens and then ids [B, T]. The model gives P positions more: slice them off.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { prefixTokens } from "cotan/lora";
 *
 * const ids = tensor(Int32Array.of(5, 6), { shape: [2, 1] });
 * const all = prefixTokens(ids, { length: 1, vocabSize: 100 });
 * assertEquals(await all.toArray(), [[100, 5], [100, 6]]);
 * ```
 */
export function prefixTokens(
  ids: Tensor,
  { length, vocabSize }: {
    readonly length: number;
    readonly vocabSize: number;
  },
): Tensor {
  checkLength(length);
  if (ids.shape.length !== 2) {
    throw new ShapeError(
      `Cannot put a prefix before ${format(ids)}: ids are [batch, time]`,
    );
  }
  return scope(() => {
    const virtual = iota([length]).add(vocabSize).expand([
      ids.shape[0]!,
      length,
    ]);
    return concat([virtual, ids], { axis: 1 });
  });
}

/** Keys and values of P positions before the text, for each layer: a tree to be trained, all of it. */
export type LayerPrefix = readonly {
  /** [K, P, D]. */
  readonly keys: Tensor;
  /** [K, P, D]. */
  readonly values: Tensor;
}[];

/**
 * Keys and values to stand before the text in every layer: prefix-layer tuning. They start as those of a run of the model
 * over random tokens, which is what the authors found to train well with words.
 *
 * Throws `RangeError` for a length below 1.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, tensor } from "cotan";
 * import { applyPrefix, layerPrefix } from "cotan/lora";
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
 * const prefix = layerPrefix(model, params, { length: 3, key: random.key(1) });
 * const ids = tensor(Int32Array.of(1, 2), { shape: [1, 2] });
 * assertEquals(applyPrefix(model, params, prefix, ids).shape, [1, 2, 10]);
 * ```
 */
export function layerPrefix<P extends Tree>(
  model: CausalModel<P>,
  params: P,
  { length, key }: PrefixOptions,
): LayerPrefix {
  checkLength(length);
  return scope(() => {
    const high = model.config.vocab_size;
    const ids = random.randint(key, [1, length], { high });
    const { cache } = model.step(params, ids, {
      cache: model.cache(1, length),
      position: 0,
    });
    return trees.map((x) => x.squeeze(0), cache) as LayerPrefix;
  });
}

/**
 * Logits [B, T, V] of ids [B, T] behind a prefix of keys and values, at the positions from P on.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, tensor } from "cotan";
 * import { applyPrefix, layerPrefix } from "cotan/lora";
 * import { gpt2 } from "cotan/nn";
 *
 * const model = gpt2({ vocab_size: 10, n_positions: 8, n_embd: 8, n_layer: 2, n_head: 2 });
 * const params = model.init(random.key(0));
 * const prefix = layerPrefix(model, params, { length: 1, key: random.key(1) });
 * assertEquals(prefix.map(({ keys }) => keys.shape), [[2, 1, 4], [2, 1, 4]]);
 * ```
 */
export function applyPrefix<P extends Tree>(
  model: CausalModel<P>,
  params: P,
  prefix: LayerPrefix,
  ids: Tensor,
  options: Pick<ApplyOptions, "mask"> = {},
): Tensor {
  const [B, T] = ids.shape as [number, number];
  return scope(() => {
    const cache: Cache = prefix.map(({ keys, values }): LayerCache => ({
      keys: opened(keys, B, T),
      values: opened(values, B, T),
    }));
    const position = prefix[0]!.keys.shape[1]!;
    const mask = options.mask &&
      concat([ones(options.mask, position), options.mask], { axis: 1 });
    return model.apply(params, ids, { cache, position, mask: mask ?? null });
  });
}

/** [K, P, D] as [B, K, P + T, D], the rest being zeros to be written over. */
function opened(x: Tensor, B: number, T: number): Tensor {
  const [K, P, D] = x.shape as [number, number, number];
  return concat([x.unsqueeze(0).expand([B, K, P, D]), zeros([B, K, T, D])], {
    axis: 2,
  });
}

/** Ones before a mask [B, T]: [B, P], of its dtype. */
function ones(mask: Tensor, length: number): Tensor {
  return mask.slice([null, [0, 1]]).mul(0).add(1).expand([
    mask.shape[0]!,
    length,
  ]);
}

function checkLength(length: number): void {
  if (Number.isInteger(length) && length >= 1) return;
  throw new RangeError(
    `Cannot add a prefix of length ${length}: it must be a positive integer`,
  );
}
