/**
 * The golden files: tensors and numbers that public code made, outside the repository.
 *
 * The reader is its own, so that it checks the library's too.
 *
 * @module
 */

import { type DType, type Shape, type Tensor, tensor } from "cotan";

const root = new URL("../../../shared/", import.meta.url);

/** Whether the golden files are there; their tests are ignored where they are not. */
export const hasGolden: boolean = exists(new URL("golden/README.md", root));

function exists(url: URL): boolean {
  try {
    Deno.statSync(url);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** The address of a file or folder of the shared data. */
export function goldenUrl(path: string): URL {
  return new URL(path, root);
}

/** A JSON file. */
export function readJson<T>(path: string): T {
  return JSON.parse(Deno.readTextFileSync(goldenUrl(path)));
}

/** A tensor of a file. */
export interface GoldenTensor {
  readonly shape: Shape;
  readonly dtype: DType;
  readonly data: Float32Array | Int32Array | Uint8Array;
}

const dtypes = {
  F32: { dtype: "f32", array: Float32Array },
  I32: { dtype: "i32", array: Int32Array },
  U8: { dtype: "bool", array: Uint8Array },
} as const;

/** The tensors of a safetensors file: header length, JSON header, data, all little-endian. */
export function readTensors(path: string): Map<string, GoldenTensor> {
  const { buffer } = Deno.readFileSync(goldenUrl(path));
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const text = new TextDecoder().decode(new Uint8Array(buffer, 8, length));
  const header: Record<string, {
    dtype: keyof typeof dtypes;
    shape: number[];
    data_offsets: [number, number];
  }> = JSON.parse(text);
  delete header["__metadata__"];
  return new Map(
    Object.entries(header).map(([name, { dtype, shape, data_offsets }]) => {
      const [start, end] = data_offsets;
      const bytes = buffer.slice(8 + length + start, 8 + length + end);
      const { array, dtype: ours } = dtypes[dtype];
      return [name, { shape, dtype: ours, data: new array(bytes) }];
    }),
  );
}

/** A tensor of a file on the current backend. */
export function upload({ shape, dtype, data }: GoldenTensor): Tensor {
  return tensor(data, { shape, dtype });
}
