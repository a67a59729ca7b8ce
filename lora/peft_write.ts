/**
 * Writing of PEFT's adapter_config.json.
 *
 * This module is browser compatible.
 *
 * @module
 */

/** An adapter of a layer, as its configuration needs it. */
export interface AdapterInfo {
  /** Path of the layer. */
  readonly path: string;
  /** Its rank. */
  readonly rank: number;
  /** Its scale. */
  readonly scale: number;
}

/** What adapter_config.json says beyond the adapters. */
export interface PeftDetails {
  /** Name or folder of the model that the adapter is for. */
  readonly baseModel: string | null;
  /** PEFT's name of the task, such as "CAUSAL_LM". */
  readonly taskType: string | null;
  /** Whether weights of linear layers are [in, out]; false when absent. */
  readonly fanInFanOut?: boolean;
}

/** The configuration of adapters; `paths` are those of all layers. Exactly the keys that every PEFT knows. */
export function writePeftConfig(
  adapters: readonly AdapterInfo[],
  paths: readonly string[],
  { baseModel, taskType, fanInFanOut = false }: PeftDetails,
): Record<string, unknown> {
  const { alphas, rslora } = alphasOf(adapters);
  const ranks = adapters.map(({ rank }) => rank);
  const rank = mostCommon(ranks), alpha = mostCommon(alphas);
  // An entry for one path also takes those that end like it. They get entries of their own before it.
  const pattern = (values: readonly number[], usual: number) => {
    const unusual = adapters.filter((_, i) => values[i] !== usual);
    return Object.fromEntries(
      adapters.map(({ path }, i) => [path, values[i]!] as const)
        .filter(([path]) => unusual.some((other) => endsIn(path, other.path)))
        .sort(([a], [b]) => b.length - a.length),
    );
  };
  return {
    alpha_pattern: pattern(alphas, alpha),
    auto_mapping: null,
    base_model_name_or_path: baseModel,
    bias: "none",
    fan_in_fan_out: fanInFanOut,
    inference_mode: true,
    init_lora_weights: true,
    layers_pattern: null,
    layers_to_transform: null,
    lora_alpha: alpha,
    lora_dropout: 0,
    modules_to_save: null,
    peft_type: "LORA",
    r: rank,
    rank_pattern: pattern(ranks, rank),
    revision: null,
    target_modules: targetModules(adapters.map(({ path }) => path), paths),
    task_type: taskType,
    use_dora: false,
    use_rslora: rslora,
  };
}

/** The shortest target modules that take exactly these layers: last names, else paths, else a regular expression. */
function targetModules(
  adapted: readonly string[],
  paths: readonly string[],
): string | string[] {
  const takesOthers = (name: string) =>
    paths.some((path) => endsIn(path, name) && !adapted.includes(path));
  const names = new Set(adapted.map((path) => {
    const name = path.slice(path.lastIndexOf(".") + 1);
    return takesOthers(name) ? path : name;
  }));
  if (![...names].some(takesOthers)) return [...names].sort();
  return adapted.map((path) => path.replaceAll(".", "\\.")).join("|");
}

function endsIn(path: string, name: string): boolean {
  return `.${path}`.endsWith(`.${name}`);
}

/**
 * The alphas that give the scales: integers with the scale alpha / rank if there are such, else integers with
 * alpha / √rank, else the shortest numbers that give the scales bit for bit.
 */
export function alphasOf(
  adapters: readonly Pick<AdapterInfo, "rank" | "scale">[],
): { alphas: number[]; rslora: boolean } {
  const plain = adapters.map(({ scale, rank }) => alphaOf(scale, rank));
  if (plain.every(Number.isInteger)) return { alphas: plain, rslora: false };
  const root = adapters.map(({ scale, rank }) =>
    alphaOf(scale, Math.sqrt(rank))
  );
  return root.every(Number.isInteger)
    ? { alphas: root, rslora: true }
    : { alphas: plain, rslora: false };
}

function alphaOf(scale: number, divisor: number): number {
  for (let digits = 1; digits < 17; digits++) {
    const alpha = Number((scale * divisor).toPrecision(digits));
    if (Math.fround(alpha / divisor) === Math.fround(scale)) return alpha;
  }
  return scale * divisor;
}

function mostCommon(values: readonly number[]): number {
  const groups = [...Map.groupBy(values, (x) => x).values()];
  return groups.sort((a, b) => b.length - a.length)[0]![0]!;
}
