/**
 * Saving of models in folders as Hugging Face's `save_pretrained` writes them.
 *
 * @module
 */

import {
  FormatError,
  type Tree,
  tree as trees,
  TreeError,
} from "../../core/mod.ts";
import type { RawConfig } from "../models/mod.ts";
import {
  exists,
  join,
  type Output,
  type Path,
  replaceFiles,
  show,
} from "./files.ts";
import {
  planSafetensors,
  type Saved,
  type SaveDType,
  writeSaved,
} from "./safetensors_save.ts";
import { TOKENIZER_FILES } from "./tokenizer.ts";
import { INDEX, WEIGHTS } from "./weights.ts";

/** What `savePretrained` saves. */
export interface SavePretrainedOptions {
  /** The parameters, without adapters. */
  readonly params: Tree;
  /** The content of config.json. */
  readonly config: RawConfig;
  /** A folder whose tokenizer is copied. */
  readonly tokenizerFiles?: Path;
  /** What floats are saved as, halves rounded to nearest, ties to even; what they are when absent. */
  readonly dtype?: SaveDType;
  /** Most bytes of tensors in a file; beyond them there are several, and an index. 5 GB. */
  readonly maxShardBytes?: number;
  /** Stops a save that is under way, which then leaves the folder as it was. */
  readonly signal?: AbortSignal;
}

const MAX_SHARD_BYTES = 5e9;

/** Files with weights, which a save that does not write them removes: the index may have changed its mind. */
const OWN = /^model(?:-\d{5}-of-\d{5})?\.safetensors(?:\.index\.json)?$/;

/** How config.json spells what floats are. */
const SPELLED = { f32: "float32", f16: "float16", bf16: "bfloat16" } as const;

/**
 * Saves a model as a folder that `fromPretrained` and Hugging Face's libraries load. Files are replaced only when all
 * are written; weights of an earlier save under other names are then removed.
 *
 * Throws `TreeError` where the parameters have adapters: merge them, or save them alone by `savePeft`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { ones } from "cotan";
 * import { loadSafetensors, savePretrained } from "cotan/nn";
 *
 * const folder = await Deno.makeTempDir();
 * const params = { norm: { weight: ones([4]) } };
 * await savePretrained(folder, { params, config: { model_type: "other" } });
 * const saved = await loadSafetensors(`${folder}/model.safetensors`);
 * assertEquals(Object.keys(saved), ["norm.weight"]);
 * await Deno.remove(folder, { recursive: true });
 * ```
 */
export async function savePretrained(
  folder: Path,
  options: SavePretrainedOptions,
): Promise<void> {
  const { params, config, tokenizerFiles, dtype } = options;
  const adapter = trees.leaves(params).find(({ path }) =>
    /(?:^|\.)lora\./.test(path)
  );
  if (adapter) {
    throw new TreeError(
      `Cannot save a model with adapters, as at ${adapter.path}: use mergeAdapters, or savePeft for the adapters alone`,
    );
  }
  const spelled = dtype && {
    ["dtype" in config ? "dtype" : "torch_dtype"]: SPELLED[dtype],
  };
  const outputs: Output[] = [
    ...shardsOf(folder, planSafetensors(params, options), options),
    {
      path: join(folder, "config.json"),
      content: `${JSON.stringify({ ...config, ...spelled }, null, 2)}\n`,
    },
  ];
  if (tokenizerFiles !== undefined) {
    outputs.push(...await copies(tokenizerFiles, folder));
  }
  await Deno.mkdir(folder, { recursive: true });
  await replaceFiles(outputs);
  const kept = new Set(outputs.map(({ path }) => show(path)));
  for await (const { name } of Deno.readDir(folder)) {
    const path = join(folder, name);
    if (OWN.test(name) && !kept.has(show(path))) await Deno.remove(path);
  }
}

/** The files of the weights: one, or shards and their index, which the reference library names in this way. */
function shardsOf(
  folder: Path,
  saved: Saved,
  { maxShardBytes = MAX_SHARD_BYTES, signal }: SavePretrainedOptions,
): Output[] {
  const shards: Saved[number][][] = [];
  let room = 0;
  for (const one of saved) {
    if (shards.length === 0 || one.bytes > room) {
      shards.push([]);
      room = maxShardBytes;
    }
    shards.at(-1)!.push(one);
    room -= one.bytes;
  }
  const options = { metadata: { format: "pt" }, ...signal && { signal } };
  const write = (name: string, shard: Saved): Output => ({
    path: join(folder, name),
    content: (file) => writeSaved(file, shard, options),
  });
  if (shards.length <= 1) return [write(WEIGHTS, saved)];
  const digits = (n: number): string => String(n).padStart(5, "0");
  const names = shards.map((_, i) =>
    `model-${digits(i + 1)}-of-${digits(shards.length)}.safetensors`
  );
  const index = {
    metadata: { total_size: saved.reduce((sum, { bytes }) => sum + bytes, 0) },
    weight_map: Object.fromEntries(
      shards.flatMap((shard, i) => shard.map(({ name }) => [name, names[i]])),
    ),
  };
  return [
    ...shards.map((shard, i) => write(names[i]!, shard)),
    {
      path: join(folder, INDEX),
      content: `${JSON.stringify(index, null, 2)}\n`,
    },
  ];
}

async function copies(from: Path, to: Path): Promise<Output[]> {
  const found: Output[] = [];
  for (const name of TOKENIZER_FILES) {
    const path = join(from, name);
    if (!await exists(path)) continue;
    const content = await Deno.readFile(path);
    found.push({ path: join(to, name), content });
  }
  if (found.length > 0) return found;
  throw new FormatError(
    `Cannot copy a tokenizer from ${show(from)}: it has none of ${
      TOKENIZER_FILES.slice(0, 2).join(" and ")
    }`,
  );
}
