/**
 * Data sets from files and folders.
 *
 * @module
 */

import { FormatError } from "../../core/mod.ts";
import {
  exists,
  join,
  type Path,
  readExactly,
  show,
  withFile,
} from "../checkpoint/files.ts";
import { type Example, parseExamples } from "./examples.ts";

/** Endings of the files of a data folder, in the order in which they are looked for. */
const ENDINGS = [".jsonl", ".jsonl.gz", ".txt", ".txt.gz"];

/** Examples to train on, and those held out, where the data set has some of its own. */
export interface Dataset {
  /** Examples to train on. */
  readonly train: Example[];
  /** Held-out examples, or null where there is no file of them. */
  readonly valid: Example[] | null;
}

/**
 * The examples in a file, which may be gzipped; `parseExamples` says how the format is recognised.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { readExamples } from "cotan/nn";
 *
 * const path = await Deno.makeTempFile({ suffix: ".txt" });
 * await Deno.writeTextFile(path, "name : Aromi||Aromi is a pub .");
 * assertEquals(await readExamples(path), [
 *   { prompt: "name : Aromi", completion: "Aromi is a pub ." },
 * ]);
 * ```
 */
export async function readExamples(path: Path): Promise<Example[]> {
  return parseExamples(await readText(path), show(path));
}

/**
 * A data set: a file of examples, or a folder with `train` and perhaps `valid`, each `.jsonl` or `.txt`, or gzipped.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { readDataset } from "cotan/nn";
 *
 * const folder = await Deno.makeTempDir();
 * await Deno.writeTextFile(`${folder}/train.txt`, "Call me Ishmael.");
 * assertEquals(await readDataset(folder), {
 *   train: [{ text: "Call me Ishmael." }],
 *   valid: null,
 * });
 * ```
 */
export async function readDataset(path: string): Promise<Dataset> {
  if (!await exists(path) || (await Deno.stat(path)).isFile) {
    return { train: await readExamples(path), valid: null };
  }
  const train = await fileOf(path, "train");
  if (!train) {
    throw new FormatError(
      `Cannot read the folder ${path}: it has no file train${
        ENDINGS.join(" or train")
      }`,
    );
  }
  const valid = await fileOf(path, "valid");
  return {
    train: await readExamples(train),
    valid: valid === null ? null : await readExamples(valid),
  };
}

async function fileOf(folder: string, stem: string): Promise<string | null> {
  for (const ending of ENDINGS) {
    const path = join(folder, stem + ending) as string;
    if (await exists(path)) return path;
  }
  return null;
}

async function readText(path: Path): Promise<string> {
  let bytes = await withFile(
    path,
    (file, size) => readExactly(file, size, path),
  );
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) bytes = await gunzip(bytes, path);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new FormatError(
      `Cannot read ${show(path)}: it is not text in UTF-8`,
      { cause },
    );
  }
}

async function gunzip(
  bytes: Uint8Array<ArrayBuffer>,
  path: Path,
): Promise<Uint8Array<ArrayBuffer>> {
  const stream = new Blob([bytes]).stream()
    .pipeThrough(new DecompressionStream("gzip"));
  try {
    return await new Response(stream).bytes();
  } catch (cause) {
    throw new FormatError(
      `Cannot read ${show(path)}: its gzip data is damaged`,
      { cause },
    );
  }
}
