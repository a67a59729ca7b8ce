/**
 * A small Llama that tests of checkpoints write and read.
 *
 * @module
 */

import { assertRejects } from "@std/assert";
import {
  FormatError,
  memory,
  random,
  scope,
  type Tensor,
  tree,
} from "../../../core/mod.ts";
import { fromPretrained, saveSafetensors } from "../../../nn/checkpoint/mod.ts";
import { llama } from "../../../nn/models/mod.ts";
import { assertNoLeak } from "./support.ts";

/** The config of a small Llama. */
export const config = {
  architectures: ["LlamaForCausalLM"],
  vocab_size: 7,
  hidden_size: 4,
  intermediate_size: 6,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  tie_word_embeddings: true,
};

/** Tensors of that model by name. */
export function weights(): Record<string, Tensor> {
  const params = scope(() => llama(config).init(random.key(1)));
  return Object.fromEntries(
    tree.leaves(params).map(({ path, leaf }) => [path, leaf]),
  );
}

/** A folder with a config and these tensors. */
export async function writeModel(
  folder: string,
  tensors: Record<string, Tensor>,
): Promise<void> {
  await Deno.writeTextFile(`${folder}/config.json`, JSON.stringify(config));
  await saveSafetensors(`${folder}/model.safetensors`, tensors);
}

/** The message with which a folder is refused. */
export async function refusal(folder: string): Promise<string> {
  const before = memory().tensors;
  const error = await assertRejects(() => fromPretrained(folder), FormatError);
  assertNoLeak(before);
  return error.message;
}
