/**
 * safetensors files: reading, which refuses whatever is malformed.
 *
 * @module
 */

import { type Shape, type Tensor, tensor } from "../../core/mod.ts";
import { type Path, readExactly, show, withFile } from "./files.ts";
import {
  checkLoadDType,
  decodeData,
  type LoadDType,
  loadedDType,
} from "./safetensors_data.ts";
import {
  type Entry,
  type FileDType,
  fileDTypes,
  type Header,
  headerLength,
  parseHeader,
  PREFIX_BYTES,
} from "./safetensors_header.ts";
import { loadStored, type StoredTensor, type StreamOptions } from "./stream.ts";

export type { LoadDType } from "./safetensors_data.ts";
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

/** How tensors are loaded. */
export interface LoadTensorOptions extends StreamOptions {
  /** What floats become; "f32". */
  readonly dtype?: LoadDType;
}

/**
 * Reads a safetensors file: its tensors by name.
 *
 * F32, F16, BF16 and F64 become f32, or what `dtype` says, I32 and I64 i32, U32 u32, BOOL and U8 bool. F32 keeps every bit. The host holds
 * about a megabyte of the file at a time. Throws `FormatError`, naming the file and the fault, where the file is
 * missing or malformed, or a number does not fit.
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
  options: LoadTensorOptions = {},
): Promise<Record<string, Tensor>> {
  return (await readSafetensors(path, options)).tensors;
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
export async function readSafetensors(
  path: Path,
  options: LoadTensorOptions = {},
): Promise<Safetensors> {
  const { stored, metadata } = await openSafetensors(path, options.dtype);
  return { tensors: await loadStored(stored, options), metadata };
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
export async function inspectSafetensors(
  path: Path,
): Promise<Record<string, TensorInfo>> {
  const { entries } = await readHeader(path);
  return Object.fromEntries(
    entries.map(({ name, dtype, shape }) => [name, { dtype, shape }]),
  );
}

/** What a file holds, in its order, so that it can be loaded. */
export async function openSafetensors(
  path: Path,
  dtype: LoadDType = "f32",
): Promise<{
  readonly stored: readonly StoredTensor[];
  readonly metadata: Record<string, string>;
}> {
  checkLoadDType(dtype);
  const { entries, metadata, start } = await readHeader(path);
  let end = start;
  const stored = entries.map((entry): StoredTensor => ({
    name: entry.name,
    path,
    start: (end += entry.bytes) - entry.bytes,
    bytes: entry.bytes,
    unit: fileDTypes[entry.dtype],
    shape: entry.shape,
    dtype: loadedDType(entry.dtype, dtype),
    decode: (bytes, at, scratch) => {
      const to = loadedDType(entry.dtype, dtype);
      return decodeData(entry, bytes, show(path), to, at, scratch);
    },
  }));
  return { stored, metadata: { ...metadata } };
}

function readHeader(
  path: Path,
): Promise<Header & { readonly start: number }> {
  return withFile(path, async (file, size) => {
    const name = show(path);
    const prefix = await readExactly(file, Math.min(size, PREFIX_BYTES), path);
    const length = headerLength(prefix, size, name);
    const start = PREFIX_BYTES + length;
    const json = await readExactly(file, length, path);
    return { ...parseHeader(json, size - start, name), start };
  });
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
  const to = loadedDType(dtype, "f32");
  return tensor(decodeData(entry, bytes, file, to), { dtype: to, shape });
}
