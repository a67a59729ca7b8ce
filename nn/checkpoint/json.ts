/**
 * JSON objects in files, read strictly.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { FormatError } from "../../core/mod.ts";

/** Whether a JSON value is an object. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Reads UTF-8 bytes of a JSON object without repeated keys; `what` is what the bytes are of the file, "it" for all. */
export function parseObject(
  bytes: Uint8Array,
  file: string,
  what = "it",
): Record<string, unknown> {
  let text: string, json: unknown;
  try {
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    text = decoder.decode(bytes);
  } catch (cause) {
    fail(file, `${what} is not UTF-8`, cause);
  }
  try {
    json = JSON.parse(text);
  } catch (cause) {
    fail(file, `${what} is not JSON`, cause);
  }
  if (!isRecord(json)) fail(file, `${what} is no JSON object`);
  const repeated = repeatedKey(text);
  if (repeated !== null) {
    fail(file, `${what} has the key ${quote(repeated)} twice`);
  }
  return json;
}

/** A key that an object of a valid JSON text has twice, or null; JSON.parse takes the last one in silence. */
function repeatedKey(json: string): string | null {
  // The keys of each object that is open, null for an array.
  const open: (Set<string> | null)[] = [];
  let isKey = false;
  for (let i = 0; i < json.length; i++) {
    switch (json[i]) {
      case "{":
        open.push(new Set());
        isKey = true;
        break;
      case "[":
        open.push(null);
        isKey = false;
        break;
      case "}":
      case "]":
        open.pop();
        break;
      case ",":
        isKey = open.at(-1) !== null;
        break;
      case '"': {
        const start = i;
        while (json[++i] !== '"') if (json[i] === "\\") i++;
        if (!isKey) break;
        isKey = false;
        const key: string = JSON.parse(json.slice(start, i + 1));
        const keys = open.at(-1)!;
        if (keys.has(key)) return key;
        keys.add(key);
      }
    }
  }
  return null;
}

/** A JSON value as it stands in messages, cut where it is very long. */
export function shown(value: unknown): string {
  return cut(JSON.stringify(value) ?? "undefined");
}

/** A name as it stands in messages: quoted, and cut where it is very long. */
export function quote(name: string): string {
  return JSON.stringify(cut(name));
}

function cut(text: string): string {
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

/** Throws the error of a file that cannot be read. */
export function fail(file: string, fault: string, cause?: unknown): never {
  throw new FormatError(
    `Cannot read ${file}: ${fault}`,
    cause === undefined ? {} : { cause },
  );
}
