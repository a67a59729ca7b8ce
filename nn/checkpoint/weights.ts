/**
 * The weights of a model's folder: one file, or the shards that an index names.
 *
 * @module
 */

import { FormatError, type Tensor } from "../../core/mod.ts";
import { exists, join, type Path, readJson, show } from "./files.ts";
import { fail, isRecord, quote } from "./json.ts";
import {
  inspectSafetensors,
  loadSafetensors,
  type TensorInfo,
} from "./safetensors.ts";

/** Name of the weights in a folder. */
export const WEIGHTS = "model.safetensors";
const INDEX = "model.safetensors.index.json";
/** A pickle, which can run code when it is read. */
const PICKLES = ["pytorch_model.bin", "pytorch_model.bin.index.json"];

/** What is known of a folder's weights before they are read. */
export interface Weights {
  /** What holds them, for errors. */
  readonly file: string;
  /** The tensors by name. */
  readonly infos: Readonly<Record<string, TensorInfo>>;
  /** Reads all tensors. */
  load(): Promise<Record<string, Tensor>>;
}

/** Finds the weights of a folder and reads their headers. */
export async function findWeights(folder: Path): Promise<Weights> {
  const single = join(folder, WEIGHTS);
  const index = join(folder, INDEX);
  if (await exists(single)) return await openFiles(show(single), [single]);
  if (!await exists(index)) throw await noWeights(folder);
  const { weight_map: places } = await readJson(index);
  if (
    !isRecord(places) ||
    !Object.values(places).every((shard) => typeof shard === "string")
  ) {
    fail(show(index), "its weight_map does not map names to files");
  }
  const shards = [...new Set(Object.values(places as Record<string, string>))];
  for (const shard of shards) {
    // A name from a file must not lead out of the folder.
    if (/[/\\]|\.\./.test(shard)) {
      fail(show(index), `the shard ${quote(shard)} is no plain file name`);
    }
  }
  const files = shards.map((shard) => join(folder, shard));
  return await openFiles(show(index), files);
}

async function openFiles(
  file: string,
  paths: readonly Path[],
): Promise<Weights> {
  const infos: Record<string, TensorInfo> = {};
  for (const path of paths) {
    for (const [name, info] of Object.entries(await inspectSafetensors(path))) {
      if (Object.hasOwn(infos, name)) {
        fail(file, `two shards hold the tensor ${quote(name)}`);
      }
      infos[name] = info;
    }
  }
  const load = async () => {
    const tensors: Record<string, Tensor> = {};
    try {
      for (const path of paths) {
        Object.assign(tensors, await loadSafetensors(path));
      }
    } catch (error) {
      for (const loaded of Object.values(tensors)) loaded.dispose();
      throw error;
    }
    return tensors;
  };
  return { file, infos, load };
}

async function noWeights(folder: Path): Promise<FormatError> {
  for (const name of PICKLES) {
    if (!await exists(join(folder, name))) continue;
    return new FormatError(
      `Cannot load a model from ${
        show(folder)
      }: ${name} is a pickle, which can run code; convert it in Python by ` +
        `model.save_pretrained(folder, safe_serialization=True)`,
    );
  }
  return new FormatError(
    `Cannot load a model from ${
      show(folder)
    }: it has neither ${WEIGHTS} nor ${INDEX}`,
  );
}
