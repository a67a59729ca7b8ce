/**
 * Generation: one token after another from a causal language model.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { random, type Tensor, type Tree } from "../../core/mod.ts";
import type { Model } from "../models/mod.ts";
import { decode, type Start } from "./decode.ts";
import { causal, checkRequest, type RequestOptions } from "./request.ts";
import { checkSampling, type SamplingOptions } from "./sampling.ts";

/** Options of `generate` and `generateBatch`. */
export interface GenerateOptions extends RequestOptions, SamplingOptions {
  /** Key of the draws; needed where the temperature is above 0. */
  readonly key?: Tensor;
}

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
  const able = causal(model);
  check(options);
  checkRequest(model, [prompt], options);
  async function* run(): AsyncGenerator<number, void, undefined> {
    const start = { prompt, key: options.key ?? null };
    for await (const [id] of decode(able, params, [start], options)) yield id!;
  }
  return run();
}

/**
 * Generates tokens after each of several prompts, which may differ in length, all at once: the new tokens of each.
 *
 * Row i has the tokens that `generate` gives for it alone with the key `random.foldIn(key, i)`, but for rounding: a row
 * is computed beside others, and two logits that are all but equal may change places. A row that has ended costs what it
 * did before. Throws as `generate` does.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random } from "cotan";
 * import { generateBatch, llama } from "cotan/nn";
 *
 * const model = llama({
 *   vocab_size: 10,
 *   hidden_size: 8,
 *   intermediate_size: 16,
 *   num_hidden_layers: 1,
 *   num_attention_heads: 2,
 * });
 * const params = model.init(random.key(0));
 * const rows = await generateBatch(model, params, [[1, 2], [3]], { maxNewTokens: 4 });
 * assertEquals(rows.map((row) => row.length), [4, 4]);
 * ```
 */
export function generateBatch<P extends Tree>(
  model: Model<P>,
  params: P,
  prompts: readonly ArrayLike<number>[],
  options: GenerateOptions,
): Promise<number[][]> {
  const rows = prompts.map((ids) => Array.from(ids));
  const able = causal(model);
  check(options);
  checkRequest(model, rows, options, (i) => ` in row ${i}`);
  async function run(): Promise<number[][]> {
    using keys = new DisposableStack();
    const starts = rows.map((prompt, i): Start => {
      const { key } = options;
      return { prompt, key: key ? keys.use(random.foldIn(key, i)) : null };
    });
    const out = rows.map((): number[] => []);
    for await (const next of decode(able, params, starts, options)) {
      next.forEach((id, i) => {
        if (id !== null) out[i]!.push(id);
      });
    }
    return out;
  }
  return run();
}

function check(options: GenerateOptions): void {
  const { temperature = 0, key } = options;
  checkSampling(options);
  if (temperature > 0 && !key) {
    throw new TypeError(
      `Cannot sample at temperature ${temperature} without a key: pass random.key(seed), or temperature 0`,
    );
  }
}
