/**
 * Models that commands load.
 *
 * @module
 */

import { type Tree, tree } from "../../core/mod.ts";
import { exists } from "../../nn/checkpoint/files.ts";
import { fromPretrained, type Tokenizer } from "../../nn/checkpoint/mod.ts";
import {
  type CausalModel,
  isCausal,
  type ModelConfig,
} from "../../nn/models/mod.ts";
import { UsageError } from "./args.ts";

/** The model that comes with Cotan. */
export const OWN_MODEL = "moby-1m";

/** A model in memory. */
export interface Loaded {
  /** The model. */
  readonly model: CausalModel;
  /** Its parameters. */
  readonly params: Tree;
  /** Its tokenizer. */
  readonly tokenizer: Tokenizer;
  /** Content of config.json. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Where it was. */
  readonly folder: string | URL;
}

/** What may be a model of the Hugging Face Hub: a name, or an owner and a name. */
const HUB_ID = /^[\w-][\w.-]*(?:\/[\w.-]+)?$/;

/** Loads a causal language model from a folder, or the one that comes with Cotan. */
export async function loadModel(name: string): Promise<Loaded> {
  const source = name === OWN_MODEL
    ? new URL(`../assets/${OWN_MODEL}`, import.meta.url)
    : name;
  if (source === name && HUB_ID.test(name) && !await exists(name)) {
    throw new UsageError(
      `--model ${name} is no folder; commands do not fetch from the Hugging Face Hub: fromPretrained("${name}") of cotan/nn does, ` +
        `in a script with --allow-net and --allow-env, and tells the folder`,
    );
  }
  const loaded = await fromPretrained(source, { tokenizer: true });
  const { model } = loaded;
  if (isCausal(model)) return { ...loaded, model };
  throw new UsageError(
    `--model ${name} is a ${
      loaded.config.model_type ?? "model"
    } that does not continue texts; give a causal language model`,
  );
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
