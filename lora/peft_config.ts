/**
 * Reading of PEFT's adapter_config.json: what it says of a LoRA adapter.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { FormatError } from "../core/mod.ts";
import { blockOf, fitsPattern } from "./targets.ts";

/** What adapter_config.json says, as far as Cotan supports it. */
export interface PeftConfig {
  /** File name, for errors. */
  readonly file: string;
  /** Rank where no pattern says another. */
  readonly rank: number;
  /** Alpha where no pattern says another. */
  readonly alpha: number;
  /** Whether the scale is alpha / √rank. */
  readonly rslora: boolean;
  /** A regular expression over whole paths, "all-linear", or names. */
  readonly targets: string | readonly string[];
  /** A regular expression over whole paths, or names; these are no targets. */
  readonly excludes: string | readonly string[];
  /** Numbers of the only layers that are targets, or null. */
  readonly layers: readonly number[] | null;
  /** Names of the lists of layers; any when empty. */
  readonly layersPattern: readonly string[];
  /** Ranks by pattern. */
  readonly ranks: Patterns;
  /** Alphas by pattern. */
  readonly alphas: Patterns;
}

type Patterns = readonly (readonly [pattern: string, value: number])[];

/** Keys whose values other than these change what is computed, or which weights are the base, in ways not here yet. */
const PLAIN: Readonly<Record<string, readonly unknown[]>> = {
  alora_invocation_tokens: [],
  arrow_config: [],
  bias: ["none"],
  // Which way a weight lies is seen from the layer.
  fan_in_fan_out: [true, false],
  // The others, such as "pissa", take something out of the base at the start.
  init_lora_weights: [true, false, "gaussian", "eva", "orthogonal"],
  kasa_config: [],
  layer_replication: [],
  lora_bias: [false],
  modules_to_save: [],
  monteclora_config: [],
  target_parameters: [],
  trainable_token_indices: [],
  use_bdlora: [false],
  use_dora: [false],
  use_qalora: [false],
};

/** Checks a configuration. Throws `FormatError` for another method than LoRA, and for what is not supported yet. */
export function readPeftConfig(
  json: Record<string, unknown>,
  file: string,
): PeftConfig {
  const { peft_type } = json;
  if (peft_type !== "LORA") {
    fail(
      file,
      `peft_type is ${
        JSON.stringify(peft_type)
      }, and only "LORA" is supported so far`,
    );
  }
  for (const [key, plain] of Object.entries(PLAIN)) {
    const value = json[key];
    if (isEmpty(value) || plain.includes(value)) continue;
    fail(
      file,
      `${key} is ${JSON.stringify(value)}, which is not supported yet`,
    );
  }
  const { layers_to_transform: layers, layers_pattern } = json;
  return {
    file,
    rank: rankOf(json.r ?? 8, file),
    alpha: number(json.lora_alpha, 8, "lora_alpha", file),
    rslora: json.use_rslora === true,
    targets: names(json.target_modules, "target_modules", file),
    excludes: names(json.exclude_modules ?? [], "exclude_modules", file),
    layers: isEmpty(layers)
      ? null
      : [layers].flat().map((i) => number(i, 0, "layers_to_transform", file)),
    layersPattern: [
      names(layers_pattern ?? [], "layers_pattern", file),
    ].flat(),
    ranks: patterns(json.rank_pattern, "rank_pattern", file, rankOf),
    alphas: patterns(json.alpha_pattern, "alpha_pattern", file),
  };
}

function isEmpty(value: unknown): boolean {
  return value === undefined || value === null ||
    typeof value === "object" && Object.keys(value).length === 0;
}

function number(
  value: unknown,
  fallback: number,
  key: string,
  file: string,
): number {
  const given = value ?? fallback;
  if (typeof given === "number") return given;
  return fail(file, `${key} is ${JSON.stringify(given)}, and must be a number`);
}

function rankOf(value: unknown, file: string): number {
  if (Number.isSafeInteger(value) && (value as number) > 0) {
    return value as number;
  }
  return fail(
    file,
    `the rank is ${JSON.stringify(value)}, and must be a positive integer`,
  );
}

function names(
  value: unknown,
  key: string,
  file: string,
): string | readonly string[] {
  if (typeof value === "string") return value;
  if (Array.isArray(value) && value.every((x) => typeof x === "string")) {
    return value;
  }
  return fail(
    file,
    `${key} is ${
      JSON.stringify(value) ?? "absent"
    }, and must be a text or a list of texts`,
  );
}

function patterns(
  value: unknown,
  key: string,
  file: string,
  read = (x: unknown, file: string): number => number(x, 0, key, file),
): Patterns {
  if (isEmpty(value)) return [];
  return Object.entries(value as Record<string, unknown>)
    .map(([pattern, x]) => [pattern, read(x, file)]);
}

/** Whether a layer is a target, by PEFT's rules in their order. */
export function isTarget(
  config: PeftConfig,
  path: string,
  allLinear: readonly string[],
): boolean {
  const { file, targets, excludes, layers, layersPattern } = config;
  if (takes(excludes, path, file)) return false;
  if (typeof targets === "string" && /^all-linear$/i.test(targets)) {
    return allLinear.includes(path);
  }
  if (!takes(targets, path, file)) return false;
  // An entry that is the path itself holds whatever the number of the layer.
  const isExact = typeof targets === "string" || targets.includes(path);
  if (layers === null || isExact) return true;
  const block = blockOf(path, layersPattern, (source) => pattern(source, file));
  return block !== undefined && layers.includes(block);
}

function takes(
  names: string | readonly string[],
  path: string,
  file: string,
): boolean {
  return typeof names === "string"
    ? pattern(names, file).test(path)
    : names.some((name) => `.${path}`.endsWith(`.${name}`));
}

/** The rank of a target: that of the first pattern that matches. */
export function rankAt(config: PeftConfig, path: string): number {
  return valueAt(config.ranks, config.rank, path, config.file);
}

/** The scale of a target, alpha / rank or alpha / √rank with the values of its patterns. */
export function scaleAt(config: PeftConfig, path: string): number {
  const alpha = valueAt(config.alphas, config.alpha, path, config.file);
  const rank = rankAt(config, path);
  return alpha / (config.rslora ? Math.sqrt(rank) : rank);
}

function valueAt(
  patterns: Patterns,
  fallback: number,
  path: string,
  file: string,
): number {
  const match = patterns.find(([key]) =>
    fitsPattern(path, key, (source) => pattern(source, file))
  );
  return match ? match[1] : fallback;
}

function pattern(source: string, file: string): RegExp {
  try {
    return new RegExp(`^(?:${source})$`);
  } catch (cause) {
    return fail(file, `${source} is no regular expression`, cause);
  }
}

function fail(file: string, fault: string, cause?: unknown): never {
  throw new FormatError(
    `Cannot read ${file}: ${fault}`,
    cause === undefined ? {} : { cause },
  );
}
