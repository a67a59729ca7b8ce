/**
 * Tensors read from files in pieces: the host holds a piece at a time, never a tensor or a file as a whole.
 *
 * @module
 */

import {
  type Data,
  type DType,
  fromChunks,
  type Shape,
  type Tensor,
} from "../../core/mod.ts";
import { fillFrom, type Path, show, withFile } from "./files.ts";

/** About how many bytes are read at once. */
const CHUNK_BYTES = 2 ** 20;

/** How far a file has come. */
export interface Progress {
  /** Whether bytes come from the Hub, or from the disk to the backend. */
  readonly phase: "download" | "load";
  /** Name of the file. */
  readonly file: string;
  /** Bytes that are there. */
  readonly loaded: number;
  /** Bytes in all. */
  readonly total: number;
  /** Something that happened and is no error, such as that the network is out of reach. */
  readonly notice?: string;
}

/** What a program may want to know of, and to stop. */
export interface StreamOptions {
  /** Told of each piece that has come. */
  readonly onProgress?: (progress: Progress) => void;
  /** Stops what is under way: the promise rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** A tensor in a file. */
export interface StoredTensor {
  /** Its name. */
  readonly name: string;
  /** The file. */
  readonly path: Path;
  /** Where its bytes begin in the file. */
  readonly start: number;
  /** Number of its bytes. */
  readonly bytes: number;
  /** Bytes that are decoded together: an element's, or a block's. */
  readonly unit: number;
  /** Its sizes. */
  readonly shape: Shape;
  /** What its elements become. */
  readonly dtype: DType;
  /**
   * The elements of some of its bytes, which begin `at` bytes after its start. Floats may be laid out in what
   * `scratch` gives, which the next call overwrites.
   */
  decode(
    bytes: Uint8Array<ArrayBuffer>,
    at: number,
    scratch: Scratch,
  ): Data;
}

/** Gives an array of a length. */
export type Scratch = (length: number) => Float32Array<ArrayBuffer>;

/** Reads tensors, in the order given, which should be that of the files. Where one fails, all are freed. */
export async function loadStored(
  stored: readonly StoredTensor[],
  options: StreamOptions = {},
): Promise<Record<string, Tensor>> {
  const buffer = new Uint8Array(CHUNK_BYTES);
  const scratch = reusing();
  const tensors: Record<string, Tensor> = {};
  try {
    for (const [path, own] of Map.groupBy(stored, ({ path }) => path)) {
      const tell = reporter(path, own, options);
      await withFile(path, async (file) => {
        for (const one of own) {
          const { name, shape, dtype } = one;
          const pieces = readPieces(file, one, buffer, (piece, at) => {
            tell(piece.length);
            return one.decode(piece, at, scratch);
          });
          tensors[name] = await fromChunks(pieces, { shape, dtype });
        }
      });
    }
  } catch (error) {
    for (const loaded of Object.values(tensors)) loaded.dispose();
    throw error;
  }
  return tensors;
}

/** What is made of each piece of a tensor. */
async function* readPieces<R>(
  file: Deno.FsFile,
  { path, start, bytes, unit }: StoredTensor,
  buffer: Uint8Array<ArrayBuffer>,
  use: (piece: Uint8Array<ArrayBuffer>, at: number) => R,
): AsyncGenerator<R> {
  await file.seek(start, Deno.SeekMode.Start);
  const most = Math.floor(buffer.length / unit) * unit;
  for (let at = 0; at < bytes; at += most) {
    const piece = buffer.subarray(0, Math.min(most, bytes - at));
    yield use(await fillFrom(file, piece, path), at);
  }
}

function reporter(
  path: Path,
  stored: readonly StoredTensor[],
  { onProgress, signal }: StreamOptions,
): (bytes: number) => void {
  const total = stored.reduce((sum, { bytes }) => sum + bytes, 0);
  let loaded = 0;
  return (bytes) => {
    signal?.throwIfAborted();
    loaded += bytes;
    onProgress?.({ phase: "load", file: show(path), loaded, total });
  };
}

/** One array, given again and again, and a longer one where that is asked for. */
function reusing(): Scratch {
  let held = new Float32Array(0);
  return (length) => {
    if (held.length < length) held = new Float32Array(length);
    return held.subarray(0, length);
  };
}
