/**
 * The download of one file: it goes on from where an earlier one was cut, and nothing stands under the file's name
 * before its size and its hash are those that were promised.
 *
 * @module
 */

import { FormatError } from "../../core/mod.ts";
import { exists } from "./files.ts";

/** What is known of a file before it comes. */
export interface Remote {
  /** What it is called in messages. */
  readonly name: string;
  /** Where it is. */
  readonly url: string;
  /** Number of its bytes. */
  readonly bytes: number;
  /** SHA-256 of its bytes, or SHA-1 of its bytes as an object of git, in lower case. */
  readonly hash: string;
}

/** How a file is fetched. */
export interface DownloadOptions {
  /** Fetches an address from a byte on. */
  readonly get: (url: string, from: number) => Promise<Response>;
  /** Told of bytes that are there. */
  readonly onBytes: (loaded: number) => void;
}

/** How often a connection may be cut, if each brings something. */
const MOST_CUTS = 5;

/**
 * Downloads a file to a path, by way of `<path>.incomplete`, which stays for a later call where the connection is cut.
 * Throws `FormatError` where the server gives something else than was promised.
 */
export async function download(
  remote: Remote,
  path: string,
  options: DownloadOptions,
): Promise<void> {
  if (await exists(path)) return;
  const partial = `${path}.incomplete`;
  using file = await Deno.open(partial, {
    read: true,
    write: true,
    create: true,
  });
  // Another process may be at it; then this one waits, and finds it done.
  await file.lock(true);
  if (await exists(path)) return;
  await fill(file, remote, options);
  const found = await hashOf(file, remote);
  if (found !== remote.hash) {
    await file.truncate(0);
    throw new FormatError(
      `Cannot download ${remote.name}: its hash is ${found}, and ${remote.hash} was promised; what came is thrown away`,
    );
  }
  await file.sync();
  await Deno.rename(partial, path);
}

/** Fetches what is missing of a file. */
async function fill(
  file: Deno.FsFile,
  { name, url, bytes }: Remote,
  { get, onBytes }: DownloadOptions,
): Promise<void> {
  for (let cuts = 0;; cuts++) {
    let { size } = await file.stat();
    if (size > bytes) await file.truncate(size = 0);
    if (size === bytes) return onBytes(bytes);
    const response = await get(url, size);
    if (response.status === 416 && size > 0) {
      // What is there is not what the server has.
      await response.body?.cancel();
      await file.truncate(0);
      continue;
    }
    if (!response.ok || !response.body) {
      await response.body?.cancel();
      throw new FormatError(
        `Cannot download ${name}: the server answers ${response.status} to ${url}`,
      );
    }
    // A server may give the whole where a part was asked for.
    const isWhole = response.status !== 206;
    if (isWhole) await file.truncate(0);
    const start = isWhole ? 0 : size;
    const end = await append(file, response.body, start, bytes, onBytes);
    if (end.at > bytes) {
      await file.truncate(0);
      throw new FormatError(
        `Cannot download ${name}: more than the ${bytes} bytes come that were promised; what came is thrown away`,
      );
    }
    if (end.at < bytes && (end.at === start || cuts === MOST_CUTS)) {
      throw new FormatError(
        `Cannot download ${name}: the connection was cut after ${end.at} of ${bytes} bytes; ` +
          `another call goes on from there`,
        { cause: end.error },
      );
    }
  }
}

/** Writes what comes to a file from a byte on, until it ends, is cut, or is too much; gives where that was. */
async function append(
  file: Deno.FsFile,
  body: ReadableStream<Uint8Array>,
  start: number,
  most: number,
  onBytes: (loaded: number) => void,
): Promise<{ readonly at: number; readonly error?: unknown }> {
  let at = start;
  await file.seek(at, Deno.SeekMode.Start);
  const reader = body.getReader();
  try {
    while (at <= most) {
      let piece: ReadableStreamReadResult<Uint8Array>;
      try {
        piece = await reader.read();
      } catch (error) {
        if (isAbort(error)) throw error;
        return { at, error };
      }
      if (piece.done) return { at };
      for (let i = 0; i < piece.value.length;) {
        i += await file.write(piece.value.subarray(i));
      }
      at += piece.value.length;
      if (at <= most) onBytes(at);
    }
    return { at };
  } finally {
    // Whatever happened is told already.
    await reader.cancel().catch(() => {});
  }
}

/** The network fails with errors of these classes; any other comes from the signal or the caller. */
function isAbort(error: unknown): boolean {
  return !(error instanceof TypeError || error instanceof Deno.errors.Http ||
    error instanceof Deno.errors.ConnectionReset ||
    error instanceof Deno.errors.BrokenPipe ||
    error instanceof Deno.errors.UnexpectedEof);
}

/** The hash of a file, of the kind that was promised. */
async function hashOf(
  file: Deno.FsFile,
  { hash, bytes }: Remote,
): Promise<string> {
  // WebCrypto hashes only what is in memory as a whole.
  const { createHash } = await import("node:crypto");
  const isGit = hash.length === 40;
  const hasher = createHash(isGit ? "sha1" : "sha256");
  if (isGit) hasher.update(`blob ${bytes}\0`);
  const buffer = new Uint8Array(2 ** 20);
  await file.seek(0, Deno.SeekMode.Start);
  for (;;) {
    const read = await file.read(buffer);
    if (read === null) return hasher.digest("hex");
    hasher.update(buffer.subarray(0, read));
  }
}
