/**
 * safetensors files: writing.
 *
 * @module
 */

import {
  type Tensor,
  type Tree,
  tree as trees,
  TreeError,
} from "../../core/mod.ts";
import { type Path, replaceFiles, writeAll } from "./files.ts";
import {
  encodeData,
  readSaved,
  savedDType,
  type SaveDType,
} from "./safetensors_data.ts";
import {
  compareEntries,
  encodeHeader,
  type Entry,
  fileDTypes,
} from "./safetensors_header.ts";

export type { SaveDType } from "./safetensors_data.ts";

/** Elements that are converted and written at once. */
const CHUNK = 2 ** 18;

/** How tensors are saved. */
export interface SafetensorsOptions {
  /** Free text by name. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** What floats are saved as, halves rounded to nearest, ties to even; what they are when absent. */
  readonly dtype?: SaveDType;
  /** Stops a save that is under way, which then leaves nothing behind. */
  readonly signal?: AbortSignal;
}

/**
 * Saves a tree, or a record of tensors, as a safetensors file; a tensor's name is its path. Tensors stand in the order
 * of the reference library: by dtype, then by name.
 *
 * The file appears only when it is complete: an old one stays as it was until then. This takes permission to write to
 * the whole folder, for the temporary file.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { zeros } from "cotan";
 * import { loadSafetensors, saveSafetensors } from "cotan/nn";
 *
 * const path = await Deno.makeTempFile({ suffix: ".safetensors" });
 * const head = { weight: zeros([2, 3]), bias: null };
 * await saveSafetensors(path, { head }, { metadata: { format: "pt" } });
 * assertEquals(Object.keys(await loadSafetensors(path)), ["head.weight"]);
 * await Deno.remove(path);
 * ```
 */
export function saveSafetensors(
  path: Path,
  tree: Tree,
  options: SafetensorsOptions = {},
): Promise<void> {
  return replaceFiles([{
    path,
    content: (file) => writeSafetensors(file, tree, options),
  }]);
}

/** Writes a tree to an open file. */
export function writeSafetensors(
  file: Deno.FsFile,
  tree: Tree,
  options: SafetensorsOptions = {},
): Promise<void> {
  return writeSaved(file, planSafetensors(tree, options), options);
}

/** Tensors with what they are in a file, in the file's order. */
export type Saved = readonly (Entry & { readonly leaf: Tensor })[];

/** Writes tensors to an open file, one at a time. */
export async function writeSaved(
  file: Deno.FsFile,
  saved: Saved,
  { metadata = {}, signal }: SafetensorsOptions = {},
): Promise<void> {
  await writeAll(file, encodeHeader({ entries: saved, metadata }));
  for (const { leaf, dtype } of saved) {
    const data = await readSaved(leaf, dtype);
    for (let at = 0; at < data.length; at += CHUNK) {
      signal?.throwIfAborted();
      await writeAll(file, encodeData(data.subarray(at, at + CHUNK), dtype));
    }
  }
}

/**
 * The bytes of the file that `saveSafetensors` writes.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { zeros } from "cotan";
 * import { encodeSafetensors } from "cotan/nn";
 *
 * const bytes = await encodeSafetensors({ a: zeros([4]) });
 * assertEquals(bytes.length, 8 + 56 + 16);
 * ```
 */
export async function encodeSafetensors(
  tree: Tree,
  options: SafetensorsOptions = {},
): Promise<Uint8Array<ArrayBuffer>> {
  const saved = planSafetensors(tree, options);
  const { metadata = {} } = options;
  const start = encodeHeader({ entries: saved, metadata });
  const size = saved.reduce((sum, { bytes }) => sum + bytes, 0);
  const out = new Uint8Array(start.length + size);
  out.set(start);
  let at = start.length;
  for (const { leaf, dtype } of saved) {
    const bytes = encodeData(await readSaved(leaf, dtype), dtype);
    out.set(bytes, at);
    at += bytes.length;
  }
  return out;
}

/** The tensors of a tree as a file holds them, in the reference library's order. */
export function planSafetensors(
  tree: Tree,
  options: Pick<SafetensorsOptions, "dtype"> = {},
): Saved {
  const names = new Set<string>();
  const found = trees.leaves(tree).map(({ path: name, leaf }) => {
    if (names.has(name) || name === "__metadata__") {
      throw new TreeError(
        `Cannot save the tensor ${name}: ${
          names.has(name) ? "two have this path" : "the format keeps this name"
        }`,
      );
    }
    names.add(name);
    const dtype = savedDType(leaf.dtype, options.dtype);
    const bytes = leaf.shape.reduce((a, b) => a * b, fileDTypes[dtype]);
    return { name, dtype, shape: leaf.shape, bytes, leaf };
  });
  return found.sort(compareEntries);
}
