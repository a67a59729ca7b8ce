/**
 * Files: paths that are strings or URLs, JSON, and replacement of files in one step.
 *
 * @module
 */

import { FormatError } from "../../core/mod.ts";
import { parseObject } from "./json.ts";

/** Where a file or folder is; a URL is a `file:` one. */
export type Path = string | URL;

/** The path of something in a folder. */
export function join(folder: Path, name: string): Path {
  if (folder instanceof URL) {
    return new URL(
      encodeURIComponent(name),
      folder.href.replace(/\/?$/, "/"),
    );
  }
  return folder === "" ? name : `${folder.replace(/\/$/, "")}/${name}`;
}

/** A path as it stands in messages. */
export function show(path: Path): string {
  return path instanceof URL ? decodeURIComponent(path.pathname) : path;
}

/** Whether there is something at a path. Errors of permission come through. */
export async function exists(path: Path): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

/** Opens a file and calls `use` with it and its size. Throws `FormatError` where there is no file. */
export async function withFile<R>(
  path: Path,
  use: (file: Deno.FsFile, bytes: number) => Promise<R>,
): Promise<R> {
  try {
    using file = await Deno.open(path);
    const { isFile, size } = await file.stat();
    if (isFile) return await use(file, size);
  } catch (error) {
    if (isMissing(error)) {
      throw new FormatError(`Cannot read ${show(path)}: there is no such file`);
    }
    throw error;
  }
  throw new FormatError(`Cannot read ${show(path)}: it is no file`);
}

/** Reads `bytes` bytes from where the file stands. */
export function readExactly(
  file: Deno.FsFile,
  bytes: number,
  path: Path,
): Promise<Uint8Array<ArrayBuffer>> {
  return fillFrom(file, new Uint8Array(bytes), path);
}

/** Fills an array with the bytes from where the file stands on, and returns it. */
export async function fillFrom(
  file: Deno.FsFile,
  out: Uint8Array<ArrayBuffer>,
  path: Path,
): Promise<Uint8Array<ArrayBuffer>> {
  for (let at = 0; at < out.length;) {
    const read = await file.read(out.subarray(at));
    if (read === null) {
      throw new FormatError(
        `Cannot read ${show(path)}: it was cut short while it was read`,
      );
    }
    at += read;
  }
  return out;
}

/** Reads a JSON object. Throws `FormatError` where the file is missing, or holds something else. */
export async function readJson(path: Path): Promise<Record<string, unknown>> {
  const bytes = await withFile(
    path,
    (file, size) => readExactly(file, size, path),
  );
  return parseObject(bytes, show(path));
}

/** A file to be written. */
export interface Output {
  /** Where it goes. */
  readonly path: Path;
  /** Its content, or what writes it. */
  readonly content:
    | string
    | Uint8Array
    | ((file: Deno.FsFile) => Promise<void>);
}

/**
 * Writes files beside their places and renames them only when all are complete and on the disk: what goes wrong before
 * leaves the old files as they were, and no new ones.
 */
export async function replaceFiles(outputs: readonly Output[]): Promise<void> {
  const suffix = `.${crypto.randomUUID().slice(0, 8)}.tmp`;
  const written: { temporary: Path; path: Path }[] = [];
  try {
    for (const { path, content } of outputs) {
      const temporary = path instanceof URL
        ? new URL(path.href + suffix)
        : path + suffix;
      using file = await Deno.open(temporary, { write: true, createNew: true });
      written.push({ temporary, path });
      if (typeof content === "function") await content(file);
      else await writeAll(file, content);
      await file.sync();
    }
    for (const { temporary, path } of written) {
      await Deno.rename(temporary, path);
    }
  } catch (error) {
    for (const { temporary } of written) {
      // Gone already where it was renamed; the first error is the one to tell.
      await Deno.remove(temporary).catch(() => {});
    }
    throw error;
  }
}

/** Writes all of a text or of bytes. */
export async function writeAll(
  file: Deno.FsFile,
  content: string | Uint8Array,
): Promise<void> {
  const bytes = typeof content === "string"
    ? new TextEncoder().encode(content)
    : content;
  for (let at = 0; at < bytes.length;) {
    at += await file.write(bytes.subarray(at));
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Deno.errors.NotFound ||
    error instanceof Deno.errors.NotADirectory;
}
