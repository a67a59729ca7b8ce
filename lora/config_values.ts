/**
 * Values of the configurations of adapters, checked. Errors are `FormatError`s that name the file and the key.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { fail } from "../nn/checkpoint/json.ts";

/** Whether there is nothing at a key. */
export function isEmpty(value: unknown): boolean {
  return value === undefined || value === null ||
    typeof value === "object" && Object.keys(value).length === 0;
}

/** A text, or null where there is none. */
export function optionalText(
  value: unknown,
  key: string,
  file: string,
): string | null {
  if (value === undefined || value === null) return null;
  if (typeof value === "string") return value;
  return wrong(file, key, value, "it must be a text");
}

/** true or false. */
export function boolean(value: unknown, key: string, file: string): boolean {
  if (typeof value === "boolean") return value;
  return wrong(file, key, value, "it must be true or false");
}

/** A finite number. */
export function number(value: unknown, key: string, file: string): number {
  if (typeof value === "number" && Number.isFinite(value)) return value;
  return wrong(file, key, value, "it must be a number");
}

/** A share that is dropped. */
export function share(value: unknown, key: string, file: string): number {
  if (typeof value === "number" && value >= 0 && value < 1) return value;
  return wrong(file, key, value, "it must be at least 0 and below 1");
}

/** A rank. */
export function rankOf(value: unknown, key: string, file: string): number {
  if (Number.isSafeInteger(value) && (value as number) > 0) {
    return value as number;
  }
  return wrong(file, key, value, "it must be a positive integer");
}

/** A text, or several. */
export function names(
  value: unknown,
  key: string,
  file: string,
): string | readonly string[] {
  if (typeof value === "string" || isList(value)) return value;
  return wrong(file, key, value, "it must be a text or a list of texts");
}

/** Texts. */
export function list(
  value: unknown,
  key: string,
  file: string,
): readonly string[] {
  if (isList(value)) return value;
  return wrong(file, key, value, "it must be a list of texts");
}

function isList(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((x) => typeof x === "string");
}

/** Throws the error of a value that cannot be. */
export function wrong(
  file: string,
  key: string,
  value: unknown,
  why: string,
): never {
  const found = JSON.stringify(value) ?? "absent";
  fail(file, `${key} is ${found}, and ${why}`);
}
