/**
 * What decoders share: passes over their blocks, the cache, and the models that a head makes of them.
 *
 * Letters: B batch, T time, S cache capacity, C channels, K key and value heads, D head size.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  scope,
  ShapeError,
  type Tensor,
  type Tree,
  TreeError,
} from "../../core/mod.ts";
import { attention, type AttentionOptions } from "../attention.ts";
import type { Embedding } from "../embedding.ts";
import { type Linear, linear } from "../linear.ts";
import {
  type Cache,
  emptyCache,
  type LayerCache,
  writeCache,
} from "./cache.ts";
import { checkIds } from "./inputs.ts";
import type { ApplyOptions, CausalModel, Model, ModelConfig } from "./model.ts";
import {
  dense,
  initialize,
  type ParameterTable,
  shapesOf,
} from "./parameters.ts";

/** A decoder without a head. */
export interface Decoder<P extends Tree> {
  /** What it is called in errors. */
  readonly name: string;
  /** Its configuration, with defaults filled in. */
  readonly config: ModelConfig & { readonly tie_word_embeddings: boolean };
  /** The fields of the configuration that limit positions and number the blocks, which errors name. */
  readonly fields: { readonly positions: string; readonly blocks: string };
  /** C. */
  readonly channels: number;
  /** Shape and first value of each parameter. */
  readonly table: ParameterTable;
  /** Deviation of random weights. */
  readonly deviation: number;
  /** What the cache holds: K and D of each of the blocks. */
  readonly cached: {
    readonly blocks: number;
    readonly heads: number;
    readonly size: number;
  };
  /** The embedding, to which a head may be tied. */
  embedding(params: P): Embedding;
  /** Hidden states and the cache of a pass over ids that are checked. */
  states(params: P, ids: Tensor, options: ApplyOptions): States;
}

/** What a pass gives: the output of the embedding, of each block, and of the last norm; and the cache, if there is one. */
export interface States {
  readonly hidden: readonly Tensor[];
  readonly cache: Cache;
}

/** What a block gives: its output [B, T, C], and its cache with the new tokens where there is one. */
export interface BlockOutput {
  readonly x: Tensor;
  readonly held: LayerCache | undefined;
}

/** The parameters of a decoder with a head, which is there unless it is tied to the embedding. */
export type WithHead<P> = P & {
  /** [V, C]. */
  readonly lm_head?: Linear;
};

/** A causal language model. */
export function causalModel<P extends Tree>(
  decoder: Decoder<P>,
): CausalModel<WithHead<P>> {
  const { config, cached, fields } = decoder;
  const limit = config.max_position_embeddings;
  const table = {
    ...decoder.table,
    ...(!config.tie_word_embeddings &&
      dense("lm_head", config.vocab_size, decoder.channels, false)),
  };

  const run = (params: WithHead<P>, ids: Tensor, options: ApplyOptions) => {
    const { hidden, cache } = statesOf(decoder, params, ids, options);
    return { logits: linear(headOf(decoder, params), hidden.at(-1)!), cache };
  };

  return {
    ...modelOf<WithHead<P>>(decoder, table),
    apply: (params, ids, options = {}) =>
      scope(() => run(params, ids, options).logits),
    step: (params, ids, options) => scope(() => run(params, ids, options)),
    cache: (batch, capacity) => {
      if (capacity > limit) {
        throw new ShapeError(
          `Cannot make a cache of ${capacity} positions: ${fields.positions} is ${limit}`,
        );
      }
      const { blocks, heads: K, size: D } = cached;
      return emptyCache(blocks, [batch, K, capacity, D]);
    },
  };
}

/** The decoder alone: it gives the last hidden state, [B, T, C]. */
export function baseModel<P extends Tree>(decoder: Decoder<P>): Model<P> {
  return {
    ...modelOf<P>(decoder, decoder.table),
    apply: (params, ids, options = {}) =>
      scope(() => statesOf(decoder, params, ids, options).hidden.at(-1)!),
  };
}

/** What all models of a decoder have. */
export function modelOf<P extends Tree>(
  decoder: Decoder<P>,
  table: ParameterTable,
): Pick<Model<P>, "config" | "shapes" | "init" | "hidden"> {
  return {
    config: decoder.config,
    shapes: shapesOf(table),
    init: (key) => initialize(table, key, decoder.deviation) as P,
    hidden: (params, ids, options = {}) =>
      scope(() => [...statesOf(decoder, params, ids, options).hidden]),
  };
}

/** The states of a pass over ids, which are checked. */
export function statesOf<P extends Tree>(
  decoder: Decoder<P>,
  params: P,
  ids: Tensor,
  options: ApplyOptions,
): States {
  const { config, fields } = decoder;
  const limit = config.max_position_embeddings;
  checkIds(ids, options.position ?? 0, limit, fields.positions);
  return decoder.states(params, ids, options);
}

/** Passes x through blocks, of which there must be `count`, the number in `field`. */
export function runBlocks<L>(
  layers: readonly L[],
  { blocks: field }: Decoder<Tree>["fields"],
  count: number,
  x: Tensor,
  cache: Cache | undefined,
  block: (
    layer: L,
    x: Tensor,
    held: LayerCache | undefined,
    i: number,
  ) => BlockOutput,
): { readonly hidden: Tensor[]; readonly cache: LayerCache[] } {
  if (layers.length !== count) {
    throw new TreeError(
      `Cannot apply the model: there are parameters of ${layers.length} layers, and ${field} is ${count}`,
    );
  }
  const hidden = [x];
  const next: LayerCache[] = [];
  layers.forEach((layer, i) => {
    const out = scope(() => block(layer, hidden.at(-1)!, cache?.[i], i));
    hidden.push(out.x);
    if (out.held) next.push(out.held);
  });
  return { hidden, cache: next };
}

/** Causal attention [B, H, T, D] of new tokens to themselves and to what a cache holds, and the cache with them in it. */
export function attendCached(
  q: Tensor,
  keys: Tensor,
  values: Tensor,
  held: LayerCache | undefined,
  { mask = null, position = 0 }: ApplyOptions,
  options: Pick<AttentionOptions, "scale" | "window"> = {},
): { readonly seen: Tensor; readonly held: LayerCache | undefined } {
  const causal = { ...options, causal: true, mask };
  // Without a cache the keys begin where the queries do, wherever that is.
  if (!held) return { seen: attention(q, keys, values, causal), held };
  const next = {
    keys: writeCache(held.keys, keys, position),
    values: writeCache(held.values, values, position),
  };
  const seen = attention(q, next.keys, next.values, { ...causal, position });
  return { seen, held: next };
}

/** The head of a language model; a tied one is the embedding's table without its adapters. */
function headOf<P extends Tree>(
  { config, embedding }: Decoder<P>,
  params: WithHead<P>,
): Linear {
  if (config.tie_word_embeddings) {
    return { weight: embedding(params).weight };
  }
  if (params.lm_head) return params.lm_head;
  throw new TreeError(
    "Cannot compute logits: there is no lm_head.weight, and tie_word_embeddings is false",
  );
}
