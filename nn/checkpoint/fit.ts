/**
 * Whether the tensors of a file are those that are expected, each exactly once and of the same type.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { FormatError } from "../../core/mod.ts";

/** Types as text, such as `f32[2, 3]`, by name. */
export type Types = ReadonlyMap<string, string>;

/**
 * Throws a `FormatError` that lists what is missing, unused or of another type, and what fits where `listFitting` is set;
 * `what` is what cannot be loaded, and `fix` what would help.
 */
export function checkFit(
  what: string,
  expected: Types,
  found: Types,
  { listFitting = false, fix = "" } = {},
): void {
  const missing = [...expected.keys()].filter((name) => !found.has(name));
  const unused = [...found.keys()].filter((name) => !expected.has(name));
  const other = [...expected].flatMap(([name, type]) => {
    const own = found.get(name);
    return own === undefined || own === type
      ? []
      : [`${name} is ${own}, expected ${type}`];
  });
  if (missing.length + unused.length + other.length === 0) return;
  const fitting = [...expected].flatMap(([name, type]) =>
    found.get(name) === type ? [name] : []
  );
  throw new FormatError(
    `Cannot load ${what}: of ${expected.size} tensors expected ${fitting.length} fit` +
      (listFitting && fitting.length > 0 ? `: ${some(fitting)}` : "") +
      list("missing from the file", missing) +
      list("unused in the file", unused) + list("of another type", other) + fix,
  );
}

function list(title: string, items: readonly string[]): string {
  return items.length === 0 ? "" : `; ${items.length} ${title}: ${some(items)}`;
}

function some(items: readonly string[]): string {
  const more = items.length > 8 ? `, and ${items.length - 8} more` : "";
  return `${items.slice(0, 8).join(", ")}${more}`;
}
