/**
 * What the readers of adapter files share: the names of layers, and tensors that must fit exactly.
 *
 * @module
 */

import { format, FormatError, type Shape, type Tensor } from "../core/mod.ts";
import { type Path, show } from "../nn/checkpoint/files.ts";
import { checkFit } from "../nn/checkpoint/fit.ts";
import {
  readSafetensors,
  type Safetensors,
  type TensorInfo,
} from "../nn/checkpoint/safetensors.ts";
import { typeOf } from "../nn/checkpoint/safetensors_data.ts";

/** How adapters are loaded into a model. */
export interface LoadAdapterOptions {
  /** Name of the adapter in a tree that has several. */
  readonly name?: string;
}

/** Dtype and shape of the tensors of a file, by name. */
export type Infos = Readonly<Record<string, TensorInfo>>;

/**
 * Reads a file whose tensors must be those of the expected names and shapes, each exactly once. Throws `FormatError` that
 * lists those that fit, and those that are missing, unused or of another type. `named` gives a tensor of the file the name
 * by which it is expected.
 */
export async function readExactly(
  path: Path,
  infos: Infos,
  expected: ReadonlyMap<string, Shape>,
  named: (name: string) => string = (name) => name,
): Promise<Safetensors> {
  const file = show(path);
  const types = [...expected].map(([name, shape]) =>
    [name, format({ dtype: "f32", shape })] as const
  );
  const found = new Map<string, string>();
  for (const [own, info] of Object.entries(infos)) {
    const name = named(own);
    if (found.has(name)) {
      throw new FormatError(`Cannot load ${file}: it has ${name} twice`);
    }
    found.set(name, typeOf(info));
  }
  checkFit(file, new Map(types), found, { listFitting: true });
  const { tensors, metadata } = await readSafetensors(path);
  return {
    tensors: Object.fromEntries(
      Object.entries(tensors).map(([own, tensor]) => [named(own), tensor]),
    ),
    metadata,
  };
}

/**
 * The module in a file that each layer of a tree is. Names in the file may lack the first segment of the tree's paths, or
 * have one that these lack; the reading under which most modules are layers is taken. `backbone` is what the format calls
 * the part of a model below its head, whatever the tree does.
 */
export function moduleNames(
  paths: readonly string[],
  modules: ReadonlySet<string>,
  backbone?: string,
): (path: string) => string {
  const own = firstSegments(paths);
  const readings = [
    ["", ""],
    ...own.map((prefix) => [prefix, ""]),
    ...firstSegments([...modules]).map((prefix) => ["", prefix]),
    ...(backbone === undefined ? [] : own.map((prefix) => [prefix, backbone])),
  ] as [string, string][];
  const rename = ([prefix, other]: [string, string]) => (path: string) =>
    path.startsWith(prefix) ? other + path.slice(prefix.length) : path;
  const counts = readings.map((reading) =>
    paths.map(rename(reading)).filter((name) => modules.has(name)).length
  );
  return rename(readings[counts.indexOf(Math.max(...counts))]!);
}

function firstSegments(paths: readonly string[]): string[] {
  const segments = paths.map((path) => path.slice(0, path.indexOf(".") + 1));
  return [...new Set(segments)].filter((segment) => segment !== "");
}

/** Frees tensors that are not to be used. */
export function disposeAll(tensors: Readonly<Record<string, Tensor>>): void {
  for (const tensor of Object.values(tensors)) tensor.dispose();
}
