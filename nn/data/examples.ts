/**
 * Training examples out of text: plain text, JSON lines, and the E2E format of LoRA's authors.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { FormatError } from "../../core/mod.ts";

/** A turn of a conversation. */
export type Message = {
  /** Who speaks: "system", "user", "assistant", or what else the model's template knows. */
  readonly role: string;
  /** What is said. */
  readonly content: string;
};

/** A document to continue, a prompt with the completion to learn, or a conversation. */
export type Example =
  | { readonly text: string }
  | { readonly prompt: string; readonly completion: string }
  | { readonly messages: readonly Message[] };

/** How examples stand in a file. */
export type ExampleFormat = "text" | "jsonl" | "e2e";

/** What stands between context and completion in the E2E format. */
const E2E_SEPARATOR = "||";

/** Endings of data that would pass for plain text and is none. */
const OTHER = /(\.(?:json|csv|tsv|parquet|arrow))(?:\.gz)?$/i;

/**
 * The format of a file: `.jsonl` and `.ndjson` are JSON lines; other text is in the E2E format where its first line that
 * is not empty has `||`, and plain otherwise. An ending `.gz` is passed over.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { exampleFormat } from "cotan/nn";
 *
 * assertEquals(exampleFormat("train.jsonl", "{}"), "jsonl");
 * assertEquals(exampleFormat("train.txt", "name : Aromi||Aromi is a pub ."), "e2e");
 * assertEquals(exampleFormat("train.txt", "Call me Ishmael."), "text");
 * ```
 */
export function exampleFormat(name: string, text: string): ExampleFormat {
  if (/\.(jsonl|ndjson)(\.gz)?$/i.test(name)) return "jsonl";
  const first = /\S.*/.exec(text)?.[0] ?? "";
  return first.includes(E2E_SEPARATOR) ? "e2e" : "text";
}

/**
 * The examples in a text. Plain text is one example; otherwise each line that is not empty is one. Throws `FormatError`
 * for a bad line, with the name, the line number and the reason, for a text without examples, and for files of other
 * kinds, such as `.csv`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { parseExamples } from "cotan/nn";
 *
 * const lines = '{"text": "Once upon a time"}\n{"prompt": "2 + 2 =", "completion": "4"}\n';
 * assertEquals(parseExamples(lines, "train.jsonl"), [
 *   { text: "Once upon a time" },
 *   { prompt: "2 + 2 =", completion: "4" },
 * ]);
 * ```
 */
export function parseExamples(text: string, name: string): Example[] {
  const ending = OTHER.exec(name)?.[1];
  if (ending !== undefined) {
    throw new FormatError(
      `Cannot read ${name}: ${ending} files are not supported; give text as .txt, or examples as .jsonl, one object a line`,
    );
  }
  const format = exampleFormat(name, text);
  const examples = format === "text"
    ? text.trim() === "" ? [] : [{ text }]
    : parseLines(text, name, format === "e2e" ? parseE2e : parseJson);
  if (examples.length === 0) {
    throw new FormatError(
      `Cannot train on ${name}: it is empty; give it at least one example`,
    );
  }
  return examples;
}

/** Parses each line that is not empty; `parse` returns an example, or says what is wrong. */
function parseLines(
  text: string,
  name: string,
  parse: (line: string) => Example | string,
): Example[] {
  const examples: Example[] = [];
  text.split(/\r?\n/).forEach((line, i) => {
    if (line.trim() === "") return;
    const example = parse(line);
    if (typeof example === "string") {
      throw new FormatError(`Cannot read ${name}, line ${i + 1}: ${example}`);
    }
    examples.push(example);
  });
  return examples;
}

function parseE2e(line: string): Example | string {
  const at = line.indexOf(E2E_SEPARATOR);
  if (at < 0) {
    return 'there is no "||" between context and completion, as there is in the first line';
  }
  const prompt = line.slice(0, at).trim();
  const completion = line.slice(at + E2E_SEPARATOR.length).trim();
  return prompt === "" || completion === ""
    ? `there is nothing ${prompt === "" ? "before" : "after"} the "||"`
    : { prompt, completion };
}

const EXPECTED = 'expected {"text"}, {"prompt", "completion"} or {"messages"}';

function parseJson(line: string): Example | string {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    return `it is not JSON (${(error as Error).message}); ${EXPECTED}`;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return `it is not an object; ${EXPECTED}`;
  }
  const record = value as Record<string, unknown>;
  if ("messages" in record) return parseMessages(record.messages);
  const keys = "text" in record ? ["text"] : ["prompt", "completion"];
  for (const key of keys) {
    if (!(key in record)) {
      const found = Object.keys(record).map((k) => `"${k}"`).join(", ");
      return `there is no "${key}"; found ${found || "no keys"}, ${EXPECTED}`;
    }
    const field = record[key];
    if (typeof field !== "string") return `"${key}" is not a string`;
    if (field.trim() === "") return `"${key}" is empty`;
  }
  return "text" in record ? { text: record.text as string } : {
    prompt: record.prompt as string,
    completion: record.completion as string,
  };
}

function parseMessages(value: unknown): Example | string {
  if (!Array.isArray(value) || value.length === 0) {
    return '"messages" is not a list of at least one message';
  }
  for (const [i, message] of value.entries()) {
    const { role, content } = (message ?? {}) as Record<string, unknown>;
    if (typeof role !== "string" || typeof content !== "string") {
      return `message ${
        i + 1
      } of "messages" is not {"role", "content"} of strings`;
    }
  }
  const messages = (value as Message[]).map(({ role, content }) => ({
    role,
    content,
  }));
  return { messages };
}
