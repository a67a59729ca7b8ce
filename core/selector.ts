/**
 * Selectors: how leaves and nodes of a tree are chosen by their paths.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { TreeError } from "./errors.ts";
import type { Tensor } from "./tensor.ts";

/**
 * Chooses paths: a name (the last segments of a path, or of a node above it, as PEFT's target lists), a glob over the
 * whole path (`*` one segment, `**` any number, `{a,b}` either), a RegExp that must match the whole path, an array (any
 * of them), or a function.
 */
export type Selector =
  | string
  | RegExp
  | readonly (string | RegExp)[]
  | ((path: string, leaf: Tensor) => boolean);

/** How a selector is compiled. */
export interface SelectorOptions {
  /** What the paths are, for the error. */
  readonly what?: string;
  /** Whether a name also takes everything below a node of that name; true for leaves, false for nodes. */
  readonly below?: boolean;
}

/** A function that tells which paths a selector chooses; throws if one of its patterns chooses none of `paths`. */
export function compileSelector(
  selector: Selector,
  paths: readonly string[],
  options: SelectorOptions = {},
): (path: string, leaf: Tensor) => boolean {
  const { what = "leaf", below = true } = options;
  if (typeof selector === "function") return selector;
  const patterns = Array.isArray(selector)
    ? selector as readonly (string | RegExp)[]
    : [selector as string | RegExp];
  const tests = patterns.map((pattern) => compilePattern(pattern, below));
  tests.forEach((test, i) => {
    if (!paths.some(test)) {
      throw new TreeError(
        `Cannot select by ${show(patterns[i]!)}: it matches no ${what}; ${
          summarize(paths)
        }`,
      );
    }
  });
  return (path) => tests.some((test) => test(path));
}

function compilePattern(
  pattern: string | RegExp,
  below: boolean,
): (path: string) => boolean {
  if (typeof pattern === "string" && !/[*{}]/.test(pattern)) {
    return below
      ? (path) => `.${path}.`.includes(`.${pattern}.`)
      : (path) => `.${path}`.endsWith(`.${pattern}`);
  }
  const source = typeof pattern === "string"
    ? globSource(pattern)
    : pattern.source;
  const flags = typeof pattern === "string"
    ? ""
    : pattern.flags.replace(/[gy]/g, "");
  const whole = new RegExp(`^(?:${source})$`, flags);
  return (path) => whole.test(path);
}

function globSource(glob: string): string {
  return glob.replace(/\*\*\.?|\*|\{[^}]*\}|[.+^$()|[\]\\?]/g, (token) => {
    if (token === "**.") return "(?:[^.]+\\.)*";
    if (token === "**") return ".*";
    if (token === "*") return "[^.]*";
    if (token.startsWith("{")) {
      return `(?:${token.slice(1, -1).split(",").map(globSource).join("|")})`;
    }
    return `\\${token}`;
  });
}

function show(pattern: string | RegExp): string {
  return typeof pattern === "string" ? `"${pattern}"` : String(pattern);
}

/** What exists, with the numbers of layers folded: at most 12 entries. */
function summarize(paths: readonly string[]): string {
  if (paths.length === 0) return "there is none at all";
  const distinct = [
    ...new Set(paths.map((p) => p.replace(/\.\d+(?=\.|$)/g, ".*"))),
  ];
  const more = distinct.length > 12 ? `, and ${distinct.length - 12} more` : "";
  return `there are ${distinct.slice(0, 12).join(", ")}${more}`;
}
