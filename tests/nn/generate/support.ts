/**
 * What the tests of generation share: small models with clear preferences, and generation without a cache.
 *
 * @module
 */

import { llama, type LlamaConfig } from "cotan/nn";
import { ids } from "../support.ts";

/** A small Llama whose logits are far apart. */
export function smallModel(config: Partial<LlamaConfig> = {}) {
  return llama({
    vocab_size: 11,
    hidden_size: 8,
    intermediate_size: 12,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    max_position_embeddings: 160,
    initializer_range: 0.7,
    ...config,
  });
}

/** Such a model. */
export type SmallModel = ReturnType<typeof smallModel>;

/** Its parameters. */
export type SmallParams = ReturnType<SmallModel["init"]>;

/** Logits behind each token of a sequence, [T][V], without a cache. */
export async function logitsOf(
  model: SmallModel,
  params: SmallParams,
  sequence: readonly number[],
): Promise<number[][]> {
  using input = ids([sequence]);
  using logits = model.apply(params, input);
  const [rows] = await logits.toArray() as number[][][];
  return rows!;
}

/** Greedy generation without a cache. */
export async function greedy(
  model: SmallModel,
  params: SmallParams,
  start: readonly number[],
  count: number,
): Promise<number[]> {
  const all = [...start];
  for (let i = 0; i < count; i++) {
    const row = (await logitsOf(model, params, all)).at(-1)!;
    all.push(row.indexOf(Math.max(...row)));
  }
  return all.slice(start.length);
}
