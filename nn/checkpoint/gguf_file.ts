/**
 * GGUF files, as llama.cpp writes them: their header is read by `@huggingface/gguf`, their tensors here.
 *
 * A file stores the sizes of a tensor from the innermost axis outwards, and numbers little-endian.
 *
 * @module
 */

import {
  type Data,
  type DType,
  FormatError,
  type Shape,
} from "../../core/mod.ts";
import { type Path, readExactly, show, withFile } from "./files.ts";
import { fail, quote } from "./json.ts";
import { importLibrary } from "./lazy.ts";
import { decodeData, type LoadDType, loadedDType } from "./safetensors_data.ts";
import type { Scratch, StoredTensor } from "./stream.ts";

/** What a file holds. */
export interface GgufFile {
  /** Settings by key, such as `llama.block_count`. */
  readonly metadata: Readonly<Record<string, unknown>>;
  /** The tensors by name, outermost axis first. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
}

/** How elements of a type lie in a file. */
interface Layout {
  /** Elements of a block. */
  readonly elements: number;
  /** Bytes of a block. */
  readonly bytes: number;
  /** The elements of some blocks of a tensor, from a byte of it on. */
  decode(
    name: string,
    bytes: Uint8Array<ArrayBuffer>,
    file: string,
    to: DType,
    at: number,
    scratch: Scratch,
  ): Data;
}

/** A type whose elements are those of a safetensors file too. */
function plain(dtype: "F32" | "F16" | "BF16", bytes: number): Layout {
  return {
    elements: 1,
    bytes,
    decode: (name, bytes, file, to, at, scratch) =>
      decodeData({ name, dtype }, bytes, file, to, at, scratch),
  };
}

/** Blocks of 32 integers of 8 bits with a scale of 16 bits before them. */
const Q8_0: Layout = {
  elements: 32,
  bytes: 34,
  decode: (_name, { buffer, byteOffset, length }, _file, _to, _at, scratch) => {
    const integers = new Int8Array(buffer, byteOffset, length);
    const halves = new Float16Array(buffer, byteOffset, length / 2);
    const out = scratch(length / 34 * 32);
    for (let to = 0, from = 0; to < out.length; from += 34) {
      const scale = halves[from >> 1]!;
      for (let i = from + 2; i < from + 34; i++) {
        out[to++] = scale * integers[i]!;
      }
    }
    return out;
  },
};

/** The types that are read, by their name in the library. */
const layouts: Readonly<Record<string, Layout>> = {
  F32: plain("F32", 4),
  F16: plain("F16", 2),
  BF16: plain("BF16", 2),
  Q8_0,
};

/** Reads the header of a file. Throws `FormatError` where it is malformed or a tensor is of another type. */
export function openGguf(
  path: Path,
  floats: LoadDType = "f32",
): Promise<GgufFile> {
  const file = show(path);
  return withFile(path, async (handle, size) => {
    const library = await importLibrary("gguf");
    const header = await parse(library, handle, size, path);
    if (!header.littleEndian) fail(file, "its numbers are big-endian");
    const tensors = new Map<string, StoredTensor>();
    for (const info of header.tensorInfos) {
      const { name } = info;
      const what = `tensor ${quote(name)}`;
      if (tensors.has(name)) fail(file, `it has two of ${what}`);
      const type = library.GGMLQuantizationType[info.dtype] ??
        String(info.dtype);
      const layout = Object.hasOwn(layouts, type) ? layouts[type] : undefined;
      if (!layout) {
        const known = Object.keys(layouts).join(", ");
        fail(file, `${what} has type ${type}; read are ${known}`);
      }
      const shape = info.shape.map(Number).reverse();
      const bytes = bytesOf(shape, layout);
      if (bytes === null) {
        fail(file, `${what} of type ${type} has shape [${shape.join(", ")}]`);
      }
      const from = type === "F16" || type === "BF16" ? type : "F32";
      const to = loadedDType(from, floats);
      const start = Number(header.tensorDataOffset + info.offset);
      if (start + bytes > size) {
        fail(file, `${what} ends at byte ${start + bytes} of ${size}`);
      }
      tensors.set(name, {
        name,
        path,
        start,
        bytes,
        unit: layout.bytes,
        shape,
        dtype: to,
        decode: (bytes, at, scratch) =>
          layout.decode(name, bytes, file, to, at, scratch),
      });
    }
    return { metadata: { ...header.metadata }, tensors };
  });
}

/** Bytes of a tensor, or null where there is no such tensor: rows are made of whole blocks. */
function bytesOf(shape: Shape, { elements, bytes }: Layout): number | null {
  const size = shape.reduce((a, b) => a * b, 1);
  const isWhole = (shape.at(-1) ?? 1) % elements === 0;
  const total = size / elements * bytes;
  return isWhole && Number.isSafeInteger(total) ? total : null;
}

async function parse(
  { gguf }: typeof import("@huggingface/gguf"),
  handle: Deno.FsFile,
  size: number,
  path: Path,
) {
  // The library fetches ranges of an address; these come from the file.
  const read = async (_: unknown, init?: RequestInit): Promise<Response> => {
    const range = new Headers(init?.headers).get("Range") ?? "";
    const [, from = 0, to = 0] = (/(\d+)-(\d+)/.exec(range) ?? []).map(Number);
    if (from >= size) throw new Error("it is cut short");
    await handle.seek(from, Deno.SeekMode.Start);
    const bytes = await readExactly(
      handle,
      Math.min(size, to + 1) - from,
      path,
    );
    return new Response(bytes);
  };
  try {
    return await gguf("http://localhost/", { fetch: read as typeof fetch });
  } catch (cause) {
    if (cause instanceof FormatError) throw cause;
    const why = cause instanceof Error ? cause.message : String(cause);
    return fail(show(path), `the gguf library refuses it (${why})`, cause);
  }
}
