/**
 * What a model is: a record of pure functions over its parameters.
 *
 * Letters: B batch, T time, S cache capacity, C channels, K key and value heads, D head size, V vocabulary.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Shape, Tensor, TensorLike, Tree } from "../../core/mod.ts";
import type { Cache } from "./cache.ts";

/** What every configuration tells, under Hugging Face's names; the rest of config.json is kept beside it. */
export type ModelConfig = {
  /** V. */
  readonly vocab_size: number;
  /** Largest number of positions. */
  readonly max_position_embeddings: number;
  readonly [key: string]: unknown;
};

/** Options of a pass over whole sequences. */
export interface ApplyOptions {
  /** [B, T], 1 for a real token, 0 for padding; [B, S] with a cache. */
  readonly mask?: Tensor | null;
  /** Which segment each token is of, i32 [B, T], in models that tell segments apart; 0. */
  readonly tokenTypes?: Tensor | null;
  /** Keys and values of earlier tokens, as `step` returns them. They are read, not changed. */
  readonly cache?: Cache;
  /** Position of the first token: a number, a scalar tensor, or i32 [B], one for each row; may be traced; 0. */
  readonly position?: TensorLike;
}

/** Options of a pass that goes on from a cache. */
export interface StepOptions {
  /** Keys and values of earlier tokens. */
  readonly cache: Cache;
  /** Position of the first token, a number, a scalar tensor or i32 [B], which may be traced: how many the cache holds. */
  readonly position: TensorLike;
  /** [B, S], 1 for a real token; all when absent. */
  readonly mask?: Tensor | null;
}

/** What `step` gives. */
export type StepResult = {
  /** [B, T, V]. */
  readonly logits: Tensor;
  /** The cache with the new tokens in it. */
  readonly cache: Cache;
};

/**
 * A model with parameters P. It holds no tensors: parameters come first in each call.
 *
 * All passes are those of evaluation, without dropout.
 */
export interface Model<P extends Tree = Tree> {
  /** The configuration, as in config.json, with defaults filled in. */
  readonly config: ModelConfig;
  /** Shape of each parameter by its path, in order. A tied head has none. */
  readonly shapes: Readonly<Record<string, Shape>>;
  /** Random parameters from a key. */
  init(key: Tensor): P;
  /** What the model's head gives for ids i32 [B, T]: logits [B, T, V] of a language model. */
  apply(params: P, ids: Tensor, options?: ApplyOptions): Tensor;
  /** The output of the embedding, of each block, and of the last norm where there is one: [B, T, C] each. */
  hidden(params: P, ids: Tensor, options?: ApplyOptions): Tensor[];
}

/** A causal language model: what it gives at a token depends on that and earlier ones, which a cache holds. */
export interface CausalModel<P extends Tree = Tree> extends Model<P> {
  /** An empty cache for a number of positions. */
  cache(batch: number, capacity: number): Cache;
  /**
   * Logits of the next tokens, and the cache that holds them too. Shapes depend on T and the capacity alone, so one
   * compiled program serves every position, and a donated cache is updated in place.
   */
  step(params: P, ids: Tensor, options: StepOptions): StepResult;
}

/**
 * Whether a model is a causal language model, which `generate` takes.
 *
 * @example
 * ```ts
 * import { assert } from "@std/assert";
 * import { isCausal, llama } from "cotan/nn";
 *
 * const model = llama({
 *   vocab_size: 10,
 *   hidden_size: 8,
 *   intermediate_size: 16,
 *   num_hidden_layers: 1,
 *   num_attention_heads: 2,
 * });
 * assert(isCausal(model));
 * ```
 */
export function isCausal<P extends Tree>(
  model: Model<P>,
): model is CausalModel<P> {
  return "step" in model;
}
