/**
 * safetensors files: reading, which refuses whatever is malformed, and writing.
 *
 * @module
 */

import {
  type Shape,
  type Tensor,
  tensor,
  type Tree,
  tree as trees,
  TreeError,
} from "../../core/mod.ts";
import {
  type Path,
  readExactly,
  replaceFiles,
  show,
  withFile,
  writeAll,
} from "./files.ts";
import {
  decodeData,
  dtypeOf,
  encodeData,
  fileDTypeOf,
} from "./safetensors_data.ts";
import {
  compareEntries,
  encodeHeader,
  type Entry,
  type FileDType,
  fileDTypes,
  type Header,
  headerLength,
  parseHeader,
  PREFIX_BYTES,
} from "./safetensors_header.ts";

export type { FileDType } from "./safetensors_header.ts";
export type { Path } from "./files.ts";

/** What a safetensors file holds. */
export interface Safetensors {
  /** Tensors by name. */
  readonly tensors: Record<string, Tensor>;
  /** Free text by name, such as `format: "pt"`. */
  readonly metadata: Record<string, string>;
}

/** What a tensor of a file is, known without reading it. */
export interface TensorInfo {
  /** Dtype in the file. */
  readonly dtype: FileDType;
  /** Its sizes. */
  readonly shape: Shape;
}

/** Free text to save with the tensors. */
export interface SafetensorsOptions {
  /** Free text by name. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/**
 * Reads a safetensors file: its tensors by name.
 *
 * F32, F16, BF16 and F64 become f32, I32 and I64 i32, U32 u32, BOOL and U8 bool. F32 keeps every bit. Throws
 * `FormatError`, naming the file and the fault, where the file is missing or malformed, or a number does not fit.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { loadSafetensors, saveSafetensors } from "cotan/nn";
 *
 * const path = await Deno.makeTempFile({ suffix: ".safetensors" });
 * await saveSafetensors(path, { layers: [{ weight: tensor([[1, 2]]) }] });
 * const loaded = await loadSafetensors(path);
 * assertEquals(await loaded["layers.0.weight"]!.toArray(), [[1, 2]]);
 * await Deno.remove(path);
 * ```
 */
export async function loadSafetensors(
  path: Path,
): Promise<Record<string, Tensor>> {
  return (await readSafetensors(path)).tensors;
}

/**
 * Reads a safetensors file: its tensors, as `loadSafetensors` does, and its metadata.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { zeros } from "cotan";
 * import { readSafetensors, saveSafetensors } from "cotan/nn";
 *
 * const path = await Deno.makeTempFile({ suffix: ".safetensors" });
 * await saveSafetensors(path, { a: zeros([2]) }, { metadata: { format: "pt" } });
 * assertEquals((await readSafetensors(path)).metadata, { format: "pt" });
 * await Deno.remove(path);
 * ```
 */
export function readSafetensors(path: Path): Promise<Safetensors> {
  return withFile(path, async (file, size) => {
    const { header, start } = await readHeader(file, size, path);
    await file.seek(start, Deno.SeekMode.Start);
    const tensors: Record<string, Tensor> = {};
    try {
      // One tensor at a time, so that the host never holds the file as a whole.
      for (const entry of header.entries) {
        const bytes = await readExactly(file, entry.bytes, path);
        tensors[entry.name] = makeTensor(entry, bytes, show(path));
      }
    } catch (error) {
      for (const made of Object.values(tensors)) made.dispose();
      throw error;
    }
    return { tensors, metadata: { ...header.metadata } };
  });
}

/**
 * Dtype and shape of each tensor of a safetensors file, without reading the data.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { zeros } from "cotan";
 * import { inspectSafetensors, saveSafetensors } from "cotan/nn";
 *
 * const path = await Deno.makeTempFile({ suffix: ".safetensors" });
 * await saveSafetensors(path, { a: zeros([2, 3]) });
 * assertEquals(await inspectSafetensors(path), {
 *   a: { dtype: "F32", shape: [2, 3] },
 * });
 * await Deno.remove(path);
 * ```
 */
export function inspectSafetensors(
  path: Path,
): Promise<Record<string, TensorInfo>> {
  return withFile(path, async (file, size) => {
    const { header } = await readHeader(file, size, path);
    return Object.fromEntries(
      header.entries.map(({ name, dtype, shape }) => [name, { dtype, shape }]),
    );
  });
}

async function readHeader(
  file: Deno.FsFile,
  size: number,
  path: Path,
): Promise<{ header: Header; start: number }> {
  const name = show(path);
  const prefix = await readExactly(file, Math.min(size, PREFIX_BYTES), path);
  const length = headerLength(prefix, size, name);
  const start = PREFIX_BYTES + length;
  const json = await readExactly(file, length, path);
  return { header: parseHeader(json, size - start, name), start };
}

/**
 * Reads the bytes of a safetensors file; `name` stands for it in errors.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { encodeSafetensors, parseSafetensors } from "cotan/nn";
 *
 * const bytes = await encodeSafetensors({ a: tensor([1, 2]) });
 * const { tensors } = parseSafetensors(bytes, "a.safetensors");
 * assertEquals(await tensors.a!.toArray(), [1, 2]);
 * ```
 */
export function parseSafetensors(bytes: Uint8Array, name: string): Safetensors {
  const start = PREFIX_BYTES + headerLength(bytes, bytes.length, name);
  const json = bytes.subarray(PREFIX_BYTES, start);
  const header = parseHeader(json, bytes.length - start, name);
  const tensors: Record<string, Tensor> = {};
  let at = start;
  try {
    for (const entry of header.entries) {
      const data = bytes.subarray(at, at += entry.bytes);
      tensors[entry.name] = makeTensor(entry, data, name);
    }
  } catch (error) {
    for (const made of Object.values(tensors)) made.dispose();
    throw error;
  }
  return { tensors, metadata: { ...header.metadata } };
}

function makeTensor(entry: Entry, bytes: Uint8Array, file: string): Tensor {
  const { dtype, shape } = entry;
  return tensor(decodeData(entry, bytes, file), {
    dtype: dtypeOf[dtype],
    shape,
  });
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

/** Writes a tree to an open file, one tensor at a time. */
export async function writeSafetensors(
  file: Deno.FsFile,
  tree: Tree,
  options: SafetensorsOptions = {},
): Promise<void> {
  const { header, tensors } = describe(tree, options);
  await writeAll(file, encodeHeader(header));
  for (const tensor of tensors) {
    await writeAll(file, await encodeData(tensor));
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
  const { header, tensors } = describe(tree, options);
  const start = encodeHeader(header);
  const size = header.entries.reduce((sum, { bytes }) => sum + bytes, 0);
  const out = new Uint8Array(start.length + size);
  out.set(start);
  let at = start.length;
  for (const tensor of tensors) {
    const bytes = await encodeData(tensor);
    out.set(bytes, at);
    at += bytes.length;
  }
  return out;
}

/** The header of a tree, and its tensors in the header's order. */
function describe(
  tree: Tree,
  { metadata = {} }: SafetensorsOptions,
): { header: Header; tensors: Tensor[] } {
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
    const dtype = fileDTypeOf[leaf.dtype];
    const bytes = leaf.shape.reduce((a, b) => a * b, fileDTypes[dtype]);
    return { name, dtype, shape: leaf.shape, bytes, leaf };
  });
  found.sort(compareEntries);
  return {
    header: { entries: found, metadata },
    tensors: found.map(({ leaf }) => leaf),
  };
}
