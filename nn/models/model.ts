/**
 * What a causal language model is: a record of pure functions over its parameters.
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
  /** Keys and values of earlier tokens, as `step` returns them. They are read, not changed. */
  readonly cache?: Cache;
  /** Position of the first token, a number or a scalar tensor, which may be traced; 0. */
  readonly position?: TensorLike;
}

/** Options of a pass that goes on from a cache. */
export interface StepOptions {
  /** Keys and values of earlier tokens. */
  readonly cache: Cache;
  /** Position of the first token, a number or a scalar tensor, which may be traced: how many the cache holds. */
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
 * A causal language model with parameters P. It holds no tensors: parameters come first in each call.
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
  /** Logits [B, T, V] of ids i32 [B, T]. */
  apply(params: P, ids: Tensor, options?: ApplyOptions): Tensor;
  /** The output of the embedding, of each block, and of the last norm: [B, T, C] each. */
  hidden(params: P, ids: Tensor, options?: ApplyOptions): Tensor[];
  /** An empty cache for a number of positions. */
  cache(batch: number, capacity: number): Cache;
  /**
   * Logits of the next tokens, and the cache that holds them too. Shapes depend on T and the capacity alone, so one
   * compiled program serves every position, and a donated cache is updated in place.
   */
  step(params: P, ids: Tensor, options: StepOptions): StepResult;
}
