/**
 * Generation: one token after another from a causal language model.
 *
 * Letters: T time, V vocabulary.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  concat,
  jit,
  random,
  ShapeError,
  type Tensor,
  tensor,
  type Tree,
  tree,
} from "../core/mod.ts";
import {
  type Cache,
  type CausalModel,
  isCausal,
  type Model,
} from "./models/mod.ts";
import {
  checkSampling,
  chooseToken,
  type SamplingOptions,
} from "./sampling.ts";

/** Options of `generate`. */
export interface GenerateOptions extends SamplingOptions {
  /** Most tokens that are generated. */
  readonly maxNewTokens: number;
  /** Key of the draws; needed where the temperature is above 0. */
  readonly key?: Tensor;
  /** Ids that end the generation; the one that does is given out as the last. */
  readonly stop?: number | readonly number[];
  /** Ends the generation with its reason as the error. */
  readonly signal?: AbortSignal;
}

/** How many of the tokens that are left go in at once: few widths, since each is a program with kernels of its own. */
function widthFor(left: number): number {
  if (left >= 128) return 128;
  return left === 1 ? 1 : 16;
}

/** The cache has a multiple of this many positions, so that prompts of other lengths find their kernels compiled. */
const CAPACITY_STEP = 64;

/**
 * Generates tokens after a prompt, one at a time as they are drawn.
 *
 * The same key gives the same tokens. Everything made on the device is freed when the generator ends, also where its
 * consumer leaves early. Throws `RangeError` for options or ids out of range, and `ShapeError` where prompt and new
 * tokens together exceed max_position_embeddings, and `TypeError` for a model that is not causal.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random } from "cotan";
 * import { generate, llama } from "cotan/nn";
 *
 * const model = llama({
 *   vocab_size: 10,
 *   hidden_size: 8,
 *   intermediate_size: 16,
 *   num_hidden_layers: 1,
 *   num_attention_heads: 2,
 * });
 * const params = model.init(random.key(0));
 * const ids = await Array.fromAsync(generate(model, params, [1, 2], { maxNewTokens: 3 }));
 * assertEquals(ids.length, 3);
 * ```
 */
export function generate<P extends Tree>(
  model: Model<P>,
  params: P,
  ids: ArrayLike<number>,
  options: GenerateOptions,
): AsyncGenerator<number, void, undefined> {
  const prompt = Array.from(ids);
  if (!isCausal(model)) {
    throw new TypeError(
      `Cannot generate with a ${
        model.config.model_type ?? "model"
      } that is no causal language model: it has no step`,
    );
  }
  check(model, prompt, options);
  return run(model, params, prompt, options);
}

async function* run<P extends Tree>(
  model: CausalModel<P>,
  params: P,
  prompt: readonly number[],
  options: GenerateOptions,
): AsyncGenerator<number, void, undefined> {
  const { maxNewTokens, signal, temperature = 0 } = options;
  const key = temperature > 0 ? options.key! : null;
  const stop = [options.stop ?? []].flat();
  signal?.throwIfAborted();
  if (maxNewTokens === 0) return;
  const needed = prompt.length + maxNewTokens;
  const capacity = Math.min(
    Math.ceil(needed / CAPACITY_STEP) * CAPACITY_STEP,
    model.config.max_position_embeddings,
  );
  using session = open(model, params, capacity, key);
  let next = prompt;
  for (let count = 0; count < maxNewTokens; count++) {
    signal?.throwIfAborted();
    using logits = session.feed(next, count);
    const row = await logits.data();
    signal?.throwIfAborted();
    // The number drawn stands behind the logits, so that one read brings both.
    const uniform = key ? row[row.length - 1]! : 0;
    const id = chooseToken(key ? row.subarray(0, -1) : row, options, uniform);
    yield id;
    if (stop.includes(id)) return;
    next = [id];
  }
}

/** A sequence in progress. */
interface Session extends Disposable {
  /** Takes tokens in; gives the logits [V] after the last, and behind them the number for draw `count` where there is a key. */
  feed(ids: readonly number[], count: number): Tensor;
}

/** Compiles a model's step, and keeps the cache that it is given over and over. */
function open<P extends Tree>(
  model: CausalModel<P>,
  params: P,
  capacity: number,
  key: Tensor | null,
): Session {
  const step = jit(
    (params: P, cache: Cache, ids: Tensor, at: Tensor) => {
      const [position, last, count] = at.split([1, 1, 1]);
      const out = model.step(params, ids, { cache, position: position! });
      const row = out.logits.squeeze(0).take(last!).squeeze(0); // [V]
      if (!key) return { row, cache: out.cache };
      const draw = random.uniform(random.foldIn(key, count!), [1]);
      return { row: concat([row, draw]), cache: out.cache };
    },
    { donate: [1], name: "generate" },
  );
  let cache = model.cache(1, capacity);
  let held = 0;

  /** Takes tokens in; where they are fewer than the width, ids of 0 fill up. */
  function feedChunk(ids: readonly number[], width: number, count: number) {
    const filled = new Int32Array(width);
    filled.set(ids);
    using tokens = tensor(filled, { shape: [1, width] });
    using at = tensor(Int32Array.of(held, ids.length - 1, count));
    const out = step(params, cache, tokens, at);
    cache = out.cache;
    held += ids.length;
    return out.row;
  }

  return {
    feed(ids, count) {
      // What fills up stands behind every real token, which does not see it, and is written over by the next.
      let row: Tensor | null = null;
      for (let i = 0; i < ids.length;) {
        const width = widthFor(ids.length - i);
        row?.dispose();
        row = feedChunk(ids.slice(i, i + width), width, count);
        i += width;
      }
      return row!;
    },
    [Symbol.dispose]() {
      for (const { leaf } of tree.leaves(cache)) leaf.dispose();
      step[Symbol.dispose]();
    },
  };
}

function check(
  { config }: Model,
  prompt: readonly number[],
  options: GenerateOptions,
): void {
  const { vocab_size, max_position_embeddings } = config;
  const { maxNewTokens, temperature = 0, key } = options;
  checkSampling(options);
  if (!Number.isInteger(maxNewTokens) || maxNewTokens < 0) {
    throw new RangeError(
      `Cannot generate ${maxNewTokens} tokens: maxNewTokens must be a non-negative integer`,
    );
  }
  if (temperature > 0 && !key) {
    throw new TypeError(
      `Cannot sample at temperature ${temperature} without a key: pass random.key(seed), or temperature 0`,
    );
  }
  if (prompt.length === 0) {
    throw new RangeError(
      "Cannot generate after an empty prompt: start from the id that begins a text",
    );
  }
  for (const id of prompt) {
    if (Number.isInteger(id) && id >= 0 && id < vocab_size) continue;
    throw new RangeError(
      `Cannot generate after id ${id}: ids are integers from 0 to ${
        vocab_size - 1
      }`,
    );
  }
  const capacity = prompt.length + maxNewTokens;
  if (capacity > max_position_embeddings) {
    throw new ShapeError(
      `Cannot generate ${maxNewTokens} tokens after ${prompt.length}: ${capacity} positions exceed max_position_embeddings ${max_position_embeddings}`,
    );
  }
}
