/**
 * Reading of config.json: each field is checked where it is read, so that an error names it.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { FormatError } from "../../core/mod.ts";

/** The content of a config.json. */
export type RawConfig = { readonly [key: string]: unknown };

/** Most blocks of a model: more are a mistake, and would take all memory for their names. */
const MOST_BLOCKS = 4096;

/** Reads fields of a configuration; null counts as absent. */
export interface ConfigReader {
  /** A positive integer. */
  integer(name: string, fallback?: number): number;
  /** A number of blocks: a positive integer that some model might have. */
  blocks(name: string, fallback?: number): number;
  /** A positive number. */
  positive(name: string, fallback?: number): number;
  /** True or false. */
  flag(name: string, fallback: boolean): boolean;
  /** Throws unless the field is absent or one of the values that are supported. */
  expect(name: string, supported: readonly unknown[]): void;
  /** Throws a `FormatError` that names the model. */
  fail(rule: string): never;
}

/** A reader of a configuration of a kind of model, which stands in errors. */
export function readConfig(config: RawConfig, kind: string): ConfigReader {
  const fail = (rule: string): never => {
    throw new FormatError(`Cannot build a ${kind} model: ${rule}`);
  };
  const read = (
    name: string,
    what: string,
    ok: (value: unknown) => boolean,
    fallback?: unknown,
  ): unknown => {
    const value = config[name] ?? fallback;
    if (ok(value)) return value;
    return fail(
      value === undefined
        ? `config has no ${name}`
        : `${name} is ${JSON.stringify(value)}, and must be ${what}`,
    );
  };
  return {
    fail,
    integer: (name, fallback) =>
      read(
        name,
        "a positive integer",
        (v) => Number.isSafeInteger(v) && (v as number) > 0,
        fallback,
      ) as number,
    blocks: (name, fallback) =>
      read(
        name,
        `a positive integer of at most ${MOST_BLOCKS}`,
        (v) =>
          Number.isInteger(v) && (v as number) > 0 &&
          (v as number) <= MOST_BLOCKS,
        fallback,
      ) as number,
    positive: (name, fallback) =>
      read(
        name,
        "a positive number",
        (v) => Number.isFinite(v) && (v as number) > 0,
        fallback,
      ) as number,
    flag: (name, fallback) =>
      read(
        name,
        "true or false",
        (v) => typeof v === "boolean",
        fallback,
      ) as boolean,
    expect: (name, supported) => {
      const value = config[name] ?? undefined;
      if (value === undefined || supported.includes(value)) return;
      const list = supported.map((v) => JSON.stringify(v)).join(" or ");
      fail(
        `${name} is ${JSON.stringify(value)}, ${
          list ? `and only ${list} is supported` : "which is not supported"
        }`,
      );
    },
  };
}
