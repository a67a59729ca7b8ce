/**
 * The weights of a model's folder: one file, or the shards that an index names.
 *
 * @module
 */

import { FormatError } from "../../core/mod.ts";
import { exists, join, type Path, readJson, show } from "./files.ts";
import type { ModelFolder } from "./folder.ts";
import { fail, isRecord, quote } from "./json.ts";
import { openSafetensors } from "./safetensors.ts";
import type { LoadDType } from "./safetensors_data.ts";
import type { StoredTensor } from "./stream.ts";

/** Name of the weights in a folder. */
export const WEIGHTS = "model.safetensors";
/** Name of the index of shards in a folder. */
export const INDEX = "model.safetensors.index.json";
/** A pickle, which can run code when it is read. */
const PICKLES = ["pytorch_model.bin", "pytorch_model.bin.index.json"];

/** What is known of a folder's weights before they are read. */
export interface Weights {
  /** What holds them, for errors. */
  readonly file: string;
  /** The tensors by name, in the order of the files. */
  readonly stored: ReadonlyMap<string, StoredTensor>;
}

/** Fetches the weights of a model into its folder, where they are not there yet. */
export async function fetchWeights(folder: ModelFolder): Promise<void> {
  const { names, path } = folder;
  if (!names) return;
  if (names.has(WEIGHTS)) return await folder.fetch([WEIGHTS]);
  if (!names.has(INDEX)) throw noWeights(path, (name) => names.has(name));
  await folder.fetch([INDEX]);
  const index = await readIndex(join(path, INDEX));
  await folder.fetch([...new Set(index.values())]);
}

/** Finds the weights of a folder and reads their headers. */
export async function findWeights(
  folder: Path,
  dtype?: LoadDType,
): Promise<Weights> {
  const single = join(folder, WEIGHTS);
  const path = join(folder, INDEX);
  if (await exists(single)) return openFiles(show(single), [single], dtype);
  if (!await exists(path)) {
    const names = new Set<string>();
    for await (const { name } of Deno.readDir(folder)) names.add(name);
    throw noWeights(folder, (name) => names.has(name));
  }
  const index = await readIndex(path);
  const file = show(path);
  const shards = [...new Set(index.values())].map((name) => join(folder, name));
  const weights = await openFiles(file, shards, dtype);
  for (const [name, shard] of index) {
    const found = weights.stored.get(name)?.path;
    if (found !== undefined && show(found) === show(join(folder, shard))) {
      continue;
    }
    fail(
      file,
      `it places the tensor ${quote(name)} in ${shard}, which has none`,
    );
  }
  return weights;
}

/** The shard of each tensor by name. */
export async function readIndex(path: Path): Promise<Map<string, string>> {
  const { weight_map: places } = await readJson(path);
  if (!isRecord(places)) failIndex(path);
  const shards = new Map<string, string>();
  for (const [name, shard] of Object.entries(places)) {
    if (typeof shard !== "string") failIndex(path);
    // A name from a file must not lead out of the folder.
    if (/[/\\\0]|\.\./.test(shard) || shard === "." || shard === "") {
      fail(show(path), `the shard ${quote(shard)} is no plain file name`);
    }
    shards.set(name, shard);
  }
  return shards;
}

function failIndex(path: Path): never {
  fail(show(path), "its weight_map does not map names to files");
}

async function openFiles(
  file: string,
  paths: readonly Path[],
  dtype?: LoadDType,
): Promise<Weights> {
  const stored = new Map<string, StoredTensor>();
  for (const path of paths) {
    for (const one of (await openSafetensors(path, dtype)).stored) {
      if (stored.has(one.name)) {
        fail(file, `two shards hold the tensor ${quote(one.name)}`);
      }
      stored.set(one.name, one);
    }
  }
  return { file, stored };
}

function noWeights(
  folder: Path,
  has: (name: string) => boolean,
): FormatError {
  const what = `Cannot load a model from ${show(folder)}`;
  const pickle = PICKLES.find(has);
  return new FormatError(
    pickle
      ? `${what}: ${pickle} is a pickle, which can run code; convert it in Python by ` +
        `model.save_pretrained(folder, safe_serialization=True)`
      : `${what}: it has neither ${WEIGHTS} nor ${INDEX}`,
  );
}
