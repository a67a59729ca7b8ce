/**
 * Reading of PEFT's adapter_config.json: what it says of a LoRA adapter.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { isRecord } from "../nn/checkpoint/json.ts";
import {
  boolean,
  isEmpty,
  list,
  names,
  number,
  optionalText,
  rankOf,
  share,
  wrong,
} from "./config_values.ts";

/** What adapter_config.json says, as far as Cotan supports it. */
export interface PeftConfig {
  /** File name, for errors. */
  readonly file: string;
  /** Name of the model that the adapter is for, or null. */
  readonly baseModel: string | null;
  /** Rank where no pattern says another. */
  readonly rank: number;
  /** Alpha where no pattern says another. */
  readonly alpha: number;
  /** Whether the scale is alpha / √rank. */
  readonly rslora: boolean;
  /** Whether there are DoRA's magnitudes. */
  readonly dora: boolean;
  /** Share of the input of adapters that is dropped in training. */
  readonly dropout: number;
  /** Which biases are trained: of no layer, of every one, or of the targets. */
  readonly bias: Bias;
  /** A regular expression over whole paths, "all-linear", or names. */
  readonly targets: string | readonly string[];
  /** A regular expression over whole paths, or names; these are no targets. */
  readonly excludes: string | readonly string[];
  /** Ends of the paths of modules that are trained whole. */
  readonly saves: readonly string[];
  /** Heads that PEFT trains whole for the task, which older versions did not write down. */
  readonly heads: readonly string[];
  /** Numbers of the only layers that are targets, or null. */
  readonly layers: readonly number[] | null;
  /** Names of the lists of layers; any when empty. */
  readonly layersPattern: readonly string[];
  /** Ranks by pattern. */
  readonly ranks: Patterns;
  /** Alphas by pattern. */
  readonly alphas: Patterns;
}

/** Values by pattern, in the order in which they are tried. */
export type Patterns = readonly (readonly [pattern: string, value: number])[];

/** Which biases are trained. */
export type Bias = "none" | "all" | "lora_only";

/** Keys whose values other than these change what is computed, in ways that are not here. */
const PLAIN: Readonly<Record<string, readonly unknown[]>> = {
  alora_invocation_tokens: [],
  arrow_config: [],
  kasa_config: [],
  layer_replication: [],
  lora_bias: [false],
  monteclora_config: [],
  target_parameters: [],
  trainable_token_indices: [],
  use_bdlora: [false],
  use_qalora: [false],
};

/** Starts of the factors that leave the base as it is. */
const INITS = [undefined, null, true, false, "gaussian", "eva", "orthogonal"];

/** Heads that PEFT trains whole, by task. */
const HEADS: Readonly<Record<string, readonly string[]>> = {
  SEQ_CLS: ["classifier", "score"],
  TOKEN_CLS: ["classifier", "score"],
  QUESTION_ANS: ["qa_outputs"],
};

/** Heads that may stand among modules_to_save where the model has none of this name. */
export const TASK_HEADS: readonly string[] = Object.values(HEADS).flat();

/** Checks a configuration. Throws `FormatError` for another method than LoRA, and for what is not supported. */
export function readPeftConfig(
  json: Record<string, unknown>,
  file: string,
): PeftConfig {
  const { peft_type, init_lora_weights: init } = json;
  if (peft_type !== "LORA") {
    wrong(file, "peft_type", peft_type, 'only "LORA" is supported');
  }
  for (const [key, plain] of Object.entries(PLAIN)) {
    const value = json[key];
    if (isEmpty(value) || plain.includes(value)) continue;
    wrong(file, key, value, "that is not supported");
  }
  if (!INITS.some((one) => one === init)) {
    wrong(
      file,
      "init_lora_weights",
      init,
      "that changes the base; save it in Python with path_initial_model_for_weight_conversion",
    );
  }
  const { layers_to_transform: layers, layers_pattern } = json;
  const text = (key: string) => optionalText(json[key], key, file);
  const flag = (key: string) => boolean(json[key] ?? false, key, file);
  const task = text("task_type") ?? "";
  flag("fan_in_fan_out"); // Which way a weight lies is seen from the layer.
  return {
    file,
    baseModel: text("base_model_name_or_path"),
    rank: rankOf(json.r ?? 8, "r", file),
    alpha: number(json.lora_alpha ?? 8, "lora_alpha", file),
    rslora: flag("use_rslora"),
    dora: flag("use_dora"),
    dropout: share(json.lora_dropout ?? 0, "lora_dropout", file),
    bias: biasOf(json.bias ?? "none", file),
    targets: names(json.target_modules, "target_modules", file),
    excludes: names(json.exclude_modules ?? [], "exclude_modules", file),
    saves: list(json.modules_to_save ?? [], "modules_to_save", file),
    heads: Object.hasOwn(HEADS, task) ? HEADS[task]! : [],
    layers: isEmpty(layers)
      ? null
      : [layers].flat().map((i) => block(i, "layers_to_transform", file)),
    layersPattern: [
      names(layers_pattern ?? [], "layers_pattern", file),
    ].flat(),
    ranks: patterns(json.rank_pattern, "rank_pattern", file, rankOf),
    alphas: patterns(json.alpha_pattern, "alpha_pattern", file, number),
  };
}

function block(value: unknown, key: string, file: string): number {
  if (Number.isSafeInteger(value) && (value as number) >= 0) {
    return value as number;
  }
  return wrong(file, key, value, "it must be an integer from 0 or several");
}

function biasOf(value: unknown, file: string): Bias {
  if (value === "none" || value === "all" || value === "lora_only") {
    return value;
  }
  return wrong(file, "bias", value, 'there are "none", "all" and "lora_only"');
}

function patterns(
  value: unknown,
  key: string,
  file: string,
  read: (value: unknown, key: string, file: string) => number,
): Patterns {
  if (isEmpty(value)) return [];
  if (!isRecord(value)) {
    return wrong(file, key, value, "it must map patterns to numbers");
  }
  return Object.entries(value).map(([pattern, one]) =>
    [pattern, read(one, `${key} ${JSON.stringify(pattern)}`, file)] as const
  );
}
