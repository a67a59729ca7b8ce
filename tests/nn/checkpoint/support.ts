/**
 * What the tests of checkpoints share: files made by hand, temporary folders, and the reference data.
 *
 * @module
 */

import { assert } from "@std/assert";
import {
  memory,
  type Tensor,
  type Tree,
  tree as trees,
} from "../../../core/mod.ts";

/** A file or folder of the reference data, which is not in the repository. */
export function shared(path: string): URL {
  return new URL(`../../../../shared/${path}`, import.meta.url);
}

/** Whether the reference data is not here, so that tests of it are ignored. */
export function isAbsent(path: string): boolean {
  try {
    Deno.statSync(shared(path));
    return false;
  } catch {
    return true;
  }
}

/** Bytes of a safetensors file with a header, text or JSON, and data. */
export function fileOf(
  header: string | Record<string, unknown>,
  data: ArrayLike<number> = [],
): Uint8Array {
  const text = typeof header === "string" ? header : JSON.stringify(header);
  const json = new TextEncoder().encode(text);
  const out = new Uint8Array(8 + json.length + data.length);
  new DataView(out.buffer).setBigUint64(0, BigInt(json.length), true);
  out.set(json, 8);
  out.set(data, 8 + json.length);
  return out;
}

/** Header of a single tensor `a`. */
export function oneTensor(
  dtype: unknown,
  shape: unknown,
  offsets: unknown,
): Record<string, unknown> {
  return { a: { dtype, shape, data_offsets: offsets } };
}

/** The bytes of a tensor's elements. */
export async function bytesOf(tensor: Tensor): Promise<Uint8Array> {
  const { buffer, byteOffset, byteLength } = await tensor.data();
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** Calls `f` with a new folder, which is removed afterwards. */
export async function inFolder(
  f: (folder: string) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "cotan_" });
  try {
    await f(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Names in a folder, sorted. */
export function namesIn(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
}

/** Frees the tensors of a tree. */
export function dispose(tree: Tree): void {
  for (const { leaf } of trees.leaves(tree)) leaf.dispose();
}

/** Fails if there are more tensors than there were; fewer are fine, since earlier tests drop theirs. */
export function assertNoLeak(before: number): void {
  const { tensors } = memory();
  assert(tensors <= before, `${tensors - before} tensors leak`);
}
