/**
 * Options of the command line: what each takes, parsed with types, and the help text.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { parseArgs as untypedParseArgs } from "@std/cli/parse-args";

/** A mistake of whoever typed the command: shown as one line, without a stack. */
export class UsageError extends Error {
  /** Name of the error class. */
  override name = "UsageError";
}

/** An option: how its text becomes a value. */
export interface Option<T> {
  /** What the value is, in the help: `N`, `DIR`; empty for a switch. */
  readonly metavar: string;
  /** One line of help. */
  readonly help: string;
  /** Value where the option is absent. */
  readonly fallback: T;
  /** The fallback in the help, where it says more than the value. */
  readonly shown?: string;
  /** The value of a text, or what was expected instead. */
  parse(text: string): { readonly value: T } | { readonly expected: string };
}

/** Options by name. */
export type Options = Readonly<Record<string, Option<unknown>>>;

/** The values of options, by name. */
export type Values<O extends Options> = {
  readonly [K in keyof O]: O[K] extends Option<infer T> ? T : never;
};

/** The part of std's parser that is used; the package has no types. */
const parse = untypedParseArgs as (
  args: readonly string[],
  options: {
    readonly string: readonly string[];
    readonly boolean: readonly string[];
    readonly unknown: (arg: string, key?: string) => unknown;
  },
) => Readonly<Record<string, unknown>>;

/** An option that takes text as it is. */
export function text<T extends string | null>(
  metavar: string,
  help: string,
  fallback: T,
  shown?: string,
): Option<string | T> {
  return {
    metavar,
    help,
    fallback,
    ...(shown !== undefined && { shown }),
    parse: (value) => ({ value }),
  };
}

/** An option that takes one of a few words. */
export function choice<T extends string>(
  words: readonly T[],
  help: string,
  fallback: T,
): Option<T> {
  return {
    metavar: words.join("|"),
    help,
    fallback,
    parse: (text) => {
      const value = words.find((word) => word === text);
      return value === undefined
        ? { expected: `one of ${words.join(", ")}` }
        : { value };
    },
  };
}

/** An option that takes words with commas between. */
export function list(
  help: string,
  fallback: readonly string[],
): Option<readonly string[]> {
  return {
    metavar: "A,B,…",
    help,
    fallback,
    shown: fallback.join(","),
    parse: (text) => {
      const value = text.split(",").map((word) => word.trim());
      return value.includes("")
        ? { expected: "names with commas between" }
        : { value };
    },
  };
}

/** An option that takes positive whole numbers with commas between. */
export function numbers(
  help: string,
  fallback: null,
  shown: string,
): Option<readonly number[] | null> {
  return {
    metavar: "N,N,…",
    help,
    fallback,
    shown,
    parse: (text) => {
      const value = text.split(",").map(Number);
      return value.every((n) => Number.isSafeInteger(n) && n > 0)
        ? { value }
        : { expected: "positive whole numbers with commas between" };
    },
  };
}

/** An option that takes a number, within bounds that the help need not repeat. */
export function number<T extends number | null>(
  help: string,
  fallback: T,
  bounds: {
    readonly integer?: boolean;
    readonly min?: number;
    readonly max?: number;
    readonly shown?: string;
  } = {},
): Option<number | T> {
  const { integer = false, min = -Infinity, max = Infinity, shown } = bounds;
  const range = [
    ...(min > -Infinity ? [`at least ${min}`] : []),
    ...(max < Infinity ? [`at most ${max}`] : []),
  ].join(" and ");
  return {
    metavar: integer ? "N" : "X",
    help,
    fallback,
    ...(shown !== undefined && { shown }),
    parse: (text) => {
      const value = text.trim() === "" ? NaN : Number(text);
      const isGood = Number.isFinite(value) && value >= min && value <= max &&
        (!integer || Number.isSafeInteger(value));
      return isGood ? { value } : {
        expected: `a ${integer ? "whole number" : "number"}${
          range && ` of ${range}`
        }`,
      };
    },
  };
}

/** An option without a value. */
export function flag(help: string): Option<boolean> {
  return {
    metavar: "",
    help,
    fallback: false,
    parse: () => ({ value: true }),
  };
}

/** The values of a command's options; throws `UsageError` for what the command does not know or cannot use. */
export function parseOptions<O extends Options>(
  command: string,
  options: O,
  args: readonly string[],
): Values<O> {
  const names = Object.keys(options);
  const switches = names.filter((name) => options[name]!.metavar === "");
  const given = parse(args, {
    string: names.filter((name) => !switches.includes(name)),
    boolean: switches,
    unknown: (arg, key) => {
      throw new UsageError(unknownArgument(command, names, arg, key));
    },
  });
  const [loose] = given._ as readonly unknown[]; // what stands behind "--"
  if (loose !== undefined) {
    const message = unknownArgument(command, names, String(loose), undefined);
    throw new UsageError(message);
  }
  const values: Record<string, unknown> = {};
  for (const name of names) {
    const option = options[name]!;
    const raw = given[name];
    if (raw === undefined || raw === false) {
      values[name] = option.fallback;
      continue;
    }
    const text = String(Array.isArray(raw) ? raw.at(-1) : raw);
    if (text === "") {
      throw new UsageError(
        `--${name} needs a value: --${name} ${option.metavar}`,
      );
    }
    const result = option.parse(text);
    if ("expected" in result) {
      throw new UsageError(
        `--${name} must be ${result.expected}, found "${text}"`,
      );
    }
    values[name] = result.value;
  }
  return values as Values<O>;
}

function unknownArgument(
  command: string,
  names: readonly string[],
  arg: string,
  key: string | undefined,
): string {
  if (key === undefined) {
    return `${command} takes no argument "${arg}"; see ${command} --help`;
  }
  const flag = arg.split("=", 1)[0]!;
  return `unknown option ${flag} of ${command}; the nearest is --${
    nearest(key, names)
  }, and ${command} --help lists all`;
}

/** The word that takes the fewest edits to reach. */
export function nearest(word: string, words: readonly string[]): string {
  const scored = words.map((other) => ({ other, edits: edits(word, other) }));
  return scored.reduce((a, b) => b.edits < a.edits ? b : a).other;
}

/** Levenshtein's distance, row by row. */
function edits(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}

/** The help text of a command: a line for each option, with its default. */
export function helpText(
  usage: string,
  summary: string,
  options: Options,
): string {
  const rows = Object.entries(options).map(([name, option]) => {
    const { fallback, shown } = option;
    const isSilent = fallback === null || fallback === false;
    const value = shown ?? (isSilent ? "" : String(fallback));
    return {
      left: `  --${name}${option.metavar && ` ${option.metavar}`}`,
      right: option.help + (value && ` [${value}]`),
    };
  });
  const width = Math.max(...rows.map(({ left }) => left.length)) + 2;
  const lines = rows.map(({ left, right }) => left.padEnd(width) + right);
  return [summary, "", `Usage: ${usage} [options]`, "", ...lines].join("\n");
}
