/**
 * Models that commands load.
 *
 * @module
 */

import { type Tree, tree } from "../../core/mod.ts";
import { fromPretrained, type Tokenizer } from "../../nn/checkpoint/mod.ts";
import type { Model, ModelConfig } from "../../nn/models/mod.ts";

/** The model that comes with Cotan. */
export const OWN_MODEL = "moby-1m";

/** A model in memory. */
export interface Loaded {
  /** The model. */
  readonly model: Model;
  /** Its parameters. */
  readonly params: Tree;
  /** Its tokenizer. */
  readonly tokenizer: Tokenizer;
  /** Content of config.json. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Where it was. */
  readonly folder: string | URL;
}

/** Loads a model from a folder, or the one that comes with Cotan. */
export async function loadModel(name: string): Promise<Loaded> {
  const folder = name === OWN_MODEL
    ? new URL(`../assets/${OWN_MODEL}`, import.meta.url)
    : name;
  const loaded = await fromPretrained(folder, { tokenizer: true });
  return { ...loaded, folder };
}

/** `llama, 922,240 parameters, context 256`. */
export function describeModel(config: ModelConfig, params: Tree): string {
  const kind = typeof config.model_type === "string"
    ? `${config.model_type}, `
    : "";
  return `${kind}${
    count(tree.count(params))
  } parameters, context ${config.max_position_embeddings}`;
}

/** A number with commas. */
export function count(n: number): string {
  return n.toLocaleString("en-US");
}
