/**
 * Writing of PEFT's adapter_config.json.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { TreeError } from "../core/mod.ts";
import type { Bias } from "./peft_config.ts";
import { ancestorsOf, endsIn, isSaved } from "./peft_match.ts";

/** An adapter of a layer, as its configuration needs it. */
export interface AdapterInfo {
  /** Path of the layer. */
  readonly path: string;
  /** Its rank, or null where it has no factors. */
  readonly rank: number | null;
  /** Its scale, or null where it has no factors. */
  readonly scale: number | null;
  /** Its rate of dropout, or null where any will do. */
  readonly dropout?: number | null;
  /** Whether it has DoRA's magnitudes. */
  readonly dora?: boolean;
  /** Which of the layer's own tensors it brings. */
  readonly saves?: "none" | "bias" | "all";
}

/** A layer of the model, as the configuration needs it. */
export interface LayerInfo {
  /** Its path. */
  readonly path: string;
  /** Whether it has a bias. */
  readonly hasBias: boolean;
}

/** What adapter_config.json says beyond the adapters. */
export interface PeftDetails {
  /** Name or folder of the model that the adapter is for. */
  readonly baseModel: string | null;
  /** PEFT's name of the task, such as "CAUSAL_LM". */
  readonly taskType: string | null;
  /** Version of that model. */
  readonly revision?: string | null;
  /** Whether weights of linear layers are [in, out]; false when absent. */
  readonly fanInFanOut?: boolean;
}

/** An adapter that has factors. */
type LowRank = AdapterInfo & { readonly rank: number; readonly scale: number };

/**
 * The configuration of adapters; `layers` are all of the model. Exactly the keys that every PEFT knows. Throws `TreeError`
 * for what they cannot say.
 */
export function writePeftConfig(
  adapters: readonly AdapterInfo[],
  layers: readonly LayerInfo[],
  { baseModel, taskType, revision = null, fanInFanOut = false }: PeftDetails,
): Record<string, unknown> {
  const lowRank = adapters.filter((one): one is LowRank => one.rank !== null);
  if (lowRank.length === 0) {
    refuse("none has factors, and PEFT's LoRA has some in one layer at least");
  }
  const { alphas, rslora } = alphasOf(lowRank);
  const paths = lowRank.map(({ path }) => path);
  const ranks = lowRank.map(({ rank }) => rank);
  const rank = mostCommon(ranks), alpha = mostCommon(alphas);
  const saved = adapters.filter(({ saves }) => saves === "all")
    .map(({ path }) => path);
  const modules = saved.length > 0 ? modulesToSave(saved, layers) : null;
  return {
    alpha_pattern: patternOf(paths, alphas, alpha),
    auto_mapping: null,
    base_model_name_or_path: baseModel,
    bias: biasOf(adapters, layers),
    fan_in_fan_out: fanInFanOut,
    inference_mode: true,
    init_lora_weights: true,
    layers_pattern: null,
    layers_to_transform: null,
    lora_alpha: alpha,
    lora_dropout: dropoutOf(lowRank),
    modules_to_save: modules,
    peft_type: "LORA",
    r: rank,
    rank_pattern: patternOf(paths, ranks, rank),
    revision,
    target_modules: targetModules(
      paths,
      layers.map(({ path }) => path).filter((path) => !saved.includes(path)),
    ),
    task_type: taskType,
    use_dora: doraOf(lowRank),
    use_rslora: rslora,
  };
}

/** Entries for the values that are not the usual one: last names where all of a name agree, else paths. */
function patternOf(
  paths: readonly string[],
  values: readonly number[],
  usual: number,
): Record<string, number> {
  const agree = (name: string) =>
    new Set(values.filter((_, i) => endsIn(paths[i]!, name))).size === 1;
  const keyOf = (path: string) => agree(lastName(path)) ? lastName(path) : path;
  const unusual = paths.filter((_, i) => values[i] !== usual).map(keyOf);
  // An entry also takes the paths that end like it. Those of another value get entries of their own before it.
  const entries = paths.flatMap((path, i): [string, number][] => {
    const key = keyOf(path);
    return unusual.some((other) => endsIn(key, other))
      ? [[key, values[i]!]]
      : [];
  });
  return Object.fromEntries(
    entries.map(([key, value]) => [escaped(key), value] as const)
      .sort(([a], [b]) => b.length - a.length),
  );
}

/** The shortest target modules that take exactly these layers: last names, else paths, else a regular expression. */
function targetModules(
  adapted: readonly string[],
  paths: readonly string[],
): string | string[] {
  const takesOthers = (name: string) =>
    paths.some((path) => endsIn(path, name) && !adapted.includes(path));
  const names = new Set(adapted.map((path) => {
    const name = lastName(path);
    return takesOthers(name) ? path : name;
  }));
  if (![...names].some(takesOthers)) return [...names].sort();
  return adapted.map((path) => escaped(path).replaceAll(".", "\\.")).join("|");
}

/** The shortest names of modules that hold exactly these layers, by the ends of paths, as PEFT finds them. */
function modulesToSave(
  saved: readonly string[],
  layers: readonly LayerInfo[],
): string[] {
  const others = layers.map(({ path }) => path)
    .filter((path) => !saved.includes(path));
  const takesOthers = (name: string) =>
    others.some((path) => isSaved({ saves: [name] }, path));
  const names = saved.map((path) => {
    const module = ancestorsOf(path).find((at) =>
      !others.some((other) => ancestorsOf(other).includes(at))
    )!;
    const name = [lastName(module), module].find((x) => !takesOthers(x));
    return name ?? refuse(
      `PEFT would train more whole than ${path}, which others end like`,
    );
  });
  return [...new Set(names)].sort();
}

function biasOf(
  adapters: readonly AdapterInfo[],
  layers: readonly LayerInfo[],
): Bias {
  const of = (takes: (one: AdapterInfo) => boolean) =>
    new Set(adapters.filter(takes).map(({ path }) => path));
  const trained = of(({ saves }) => saves === "bias");
  if (trained.size === 0) return "none";
  const whole = of(({ saves }) => saves === "all");
  const targets = of(({ rank }) => rank !== null);
  const all = layers.filter(({ path, hasBias }) => hasBias && !whole.has(path))
    .map(({ path }) => path);
  if (all.every((path) => trained.has(path))) return "all";
  const isTargets = [...trained].every((path) => targets.has(path)) &&
    all.every((path) => trained.has(path) || !targets.has(path));
  return isTargets ? "lora_only" : refuse(
    `biases of ${trained.size} of ${all.length} layers are trained, and PEFT knows those of all or of the targets`,
  );
}

function dropoutOf(adapters: readonly LowRank[]): number {
  const rates = new Set(adapters.flatMap(({ dropout }) => dropout ?? []));
  const [rate = 0, ...others] = rates;
  if (others.length === 0) return shortest(rate, 1);
  return refuse(
    `the rates of dropout are ${[...rates].join(", ")}, and PEFT has one`,
  );
}

function doraOf(adapters: readonly LowRank[]): boolean {
  const [dora = false, ...others] = new Set(
    adapters.map(({ dora = false }) => dora),
  );
  if (others.length === 0) return dora;
  return refuse("some are of DoRA and some are not, and PEFT has one kind");
}

function refuse(why: string): never {
  throw new TreeError(`Cannot save adapters: ${why}`);
}

function lastName(path: string): string {
  return path.slice(path.lastIndexOf(".") + 1);
}

/** What matches a path as a regular expression. A dot takes itself among others, and is left, as PEFT's own files do. */
function escaped(path: string): string {
  return path.replace(/[\\^$*+?()[\]{}|]/g, "\\$&");
}

/**
 * The alphas that give the scales: integers with the scale alpha / rank if there are such, else integers with
 * alpha / √rank, else the shortest numbers that give the scales bit for bit.
 */
export function alphasOf(
  adapters: readonly { readonly rank: number; readonly scale: number }[],
): { alphas: number[]; rslora: boolean } {
  const plain = adapters.map(({ scale, rank }) => shortest(scale, rank));
  if (plain.every(Number.isInteger)) return { alphas: plain, rslora: false };
  const root = adapters.map(({ scale, rank }) =>
    shortest(scale, Math.sqrt(rank))
  );
  return root.every(Number.isInteger)
    ? { alphas: root, rslora: true }
    : { alphas: plain, rslora: false };
}

/** The shortest number whose quotient by the divisor is the value in f32. */
function shortest(value: number, divisor: number): number {
  for (let digits = 1; digits < 17; digits++) {
    const number = Number((value * divisor).toPrecision(digits));
    if (Math.fround(number / divisor) === Math.fround(value)) return number;
  }
  return value * divisor;
}

function mostCommon(values: readonly number[]): number {
  const groups = [...Map.groupBy(values, (x) => x).values()];
  return groups.sort((a, b) => b.length - a.length)[0]![0]!;
}
