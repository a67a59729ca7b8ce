/**
 * What the tests of adapters share: a small model, and adapters that change it.
 *
 * @module
 */

import { random, scope, type Tensor, tensor, tree } from "../../core/mod.ts";
import { isAdapter, lora, type LoraOptions } from "../../lora/mod.ts";
import {
  gpt2,
  llama,
  type LlamaParams,
  type Model,
} from "../../nn/models/mod.ts";

/** A Llama of two blocks with grouped queries; the head is tied. */
export const model = llama({
  architectures: ["LlamaForCausalLM"],
  vocab_size: 11,
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  tie_word_embeddings: true,
});

/** Its parameters, with weights large enough that a change of one shows. */
export function baseParams(): LlamaParams {
  return scope(() => tree.map((x) => x.mul(5), model.init(random.key(1))));
}

/** Options that adapt q and v at rank 3. */
export const options = {
  targets: ["q_proj", "v_proj"],
  rank: 3,
  alpha: 6,
} as const;

/** The model adapted by `lora`. */
export function adapt(
  params: LlamaParams,
  changes: Partial<LoraOptions> = {},
): LlamaParams {
  const { key = random.key(7) } = changes;
  return lora(params, { ...options, ...changes, key });
}

/** Adapters whose b is not zero, as after training. */
export function trained(tuned: LlamaParams): LlamaParams {
  return scope(() => {
    let next = 0;
    const move = (x: Tensor) =>
      x.add(random.normal(random.foldIn(random.key(3), next++), x.shape));
    const [b, rest] = tree.partition(tuned, (path) => path.endsWith("lora.b"));
    return tree.merge(tree.map(move, b), rest);
  });
}

/** Logits of a fixed batch. */
export async function logits(params: LlamaParams): Promise<Float32Array> {
  const ids = tensor(Int32Array.of(1, 2, 3, 4, 10, 0), { shape: [2, 3] });
  return await model.apply(params, ids).data() as Float32Array;
}

/** Paths of a tree's leaves that match a pattern. */
export function pathsOf(params: LlamaParams, pattern: RegExp): string[] {
  return tree.leaves(params).map(({ path }) => path)
    .filter((path) => pattern.test(path));
}

/** A GPT-2 of two blocks, whose weights are large enough that a change of one shows. */
export const gptConfig = {
  vocab_size: 11,
  n_positions: 16,
  n_embd: 8,
  n_layer: 2,
  n_head: 2,
  initializer_range: 0.5,
};
/** The model. */
export const gpt = gpt2(gptConfig);

/** Token ids of a fixed batch. */
export function someIds(): Tensor {
  return tensor(Int32Array.of(1, 2, 3, 4, 10, 0), { shape: [2, 3] });
}

/** The tree with other values in its trainable leaves, as after training. */
export function moved<T extends tree.Tree>(tuned: T, seed = 3): T {
  return scope(() => {
    let next = 0;
    const key = random.key(seed);
    const [trainable, rest] = tree.partition(tuned, isAdapter);
    return tree.merge(
      tree.map(
        (x) => x.add(random.normal(random.foldIn(key, next++), x.shape)),
        trainable,
      ),
      rest,
    );
  });
}

/** Paths and types of the leaves below a path. */
export function typesIn(t: tree.Tree, pattern = /./): string[] {
  return tree.leaves(t).map(({ path, leaf }) => `${path} ${leaf}`)
    .filter((text) => pattern.test(text));
}

/** Values of the model's logits, whatever the model. */
export async function outputs<P extends tree.Tree>(
  model: Model<P>,
  params: P,
): Promise<number[]> {
  using ids = someIds();
  using out = model.apply(params, ids);
  return [...await out.data()];
}

/** Largest distance, relative to the largest value. */
export function distance(x: ArrayLike<number>, y: ArrayLike<number>): number {
  const [a, b] = [Array.from(x), Array.from(y)];
  const largest = Math.max(...a.map(Math.abs), 1e-30);
  return Math.max(...a.map((v, i) => Math.abs(v - b[i]!))) / largest;
}

/** Parameters of that GPT-2. */
export type GptParams = ReturnType<typeof gpt.init>;

/** Its parameters. */
export function gptParams(): GptParams {
  return gpt.init(random.key(1));
}

/** It adapted by `lora`, the fused weights of attention unless told otherwise. */
export function adaptGpt(
  params: GptParams,
  changes: Partial<LoraOptions> = {},
): GptParams {
  const key = random.key(5);
  const fused = { targets: "c_attn", rank: 2, alpha: 3, key };
  return lora(params, { ...fused, ...changes });
}

/** Slices of the fused weight: query and value. */
export const queryAndValue = { c_attn: [true, false, true] };
