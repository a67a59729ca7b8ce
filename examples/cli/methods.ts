/**
 * The methods of `finetune` and their options.
 *
 * @module
 */

import {
  choice,
  flag,
  list,
  number,
  numbers,
  type Option,
  UsageError,
  type Values,
} from "./args.ts";
import type { TrainingValues } from "./job.ts";

/** What is trained. */
export type Method =
  | "lora"
  | "dylora"
  | "lorasc"
  | "full"
  | "bitfit"
  | "last-layers";

/** Options of the methods. */
export type MethodOptions = {
  readonly method: Option<Method>;
  readonly rank: Option<number>;
  readonly alpha: Option<number>;
  readonly targets: Option<readonly string[]>;
  readonly dropout: Option<number>;
  readonly rslora: Option<boolean>;
  readonly dora: Option<boolean>;
  readonly "lora-plus": Option<number | null>;
  readonly ranks: Option<readonly number[] | null>;
  readonly "rank-mode": Option<"frozen" | "full">;
  readonly "rank-draw": Option<"uniform" | "geometric">;
  readonly stages: Option<number>;
  readonly "slow-rate": Option<number>;
  readonly decay: Option<number>;
  readonly noise: Option<number>;
  readonly layers: Option<number>;
};

/** Options of the methods. */
export const methodOptions: MethodOptions = {
  method: choice(
    ["lora", "dylora", "lorasc", "full", "bitfit", "last-layers"],
    "what is trained: adapters (of one rank, of every rank, in a cascade), all, biases, or the last blocks",
    "lora",
  ),
  rank: number("rank of the adapters", 8, { integer: true, min: 1 }),
  alpha: number("the adapters count alpha / rank times", 16, { min: 1e-6 }),
  targets: list("layers with adapters, or all-linear", ["all-linear"]),
  dropout: number("share of the adapters' input that is dropped", 0, {
    min: 0,
    max: 0.99,
  }),
  rslora: flag("adapters count alpha / √rank times (lora)"),
  dora: flag("learn the lengths of the weights' rows apart (lora, lorasc)"),
  "lora-plus": number("rate of B, in rates of A (lora)", null, {
    min: 0,
    shown: "1",
  }),
  ranks: numbers("ranks that are trained (dylora)", null, "1,2,…,rank"),
  "rank-mode": choice(
    ["frozen", "full"],
    "whether only the last row of a rank learns, or all (dylora)",
    "frozen",
  ),
  "rank-draw": choice(
    ["uniform", "geometric"],
    "how the rank of a step is drawn (dylora)",
    "uniform",
  ),
  stages: number("fast adapters one after another (lorasc)", 3, {
    integer: true,
    min: 1,
  }),
  "slow-rate": number(
    "share of a fast adapter that slow weights take (lorasc)",
    0.7,
    { min: 0.01, max: 1 },
  ),
  decay: number("what is kept of the slow change (lorasc)", 1, {
    min: 0,
    max: 1,
  }),
  noise: number("width of the noise on the weights (lorasc)", 0.15, { min: 0 }),
  layers: number("blocks that are trained (last-layers)", 1, {
    integer: true,
    min: 0,
  }),
};

/** Values of the options of methods. */
export type MethodValues = Values<MethodOptions>;

const ADAPTERS: readonly Method[] = ["lora", "dylora", "lorasc"];

/** Which methods an option is for; rank, alpha and targets are passed over where there are no adapters. */
const OWNERS: Readonly<
  Partial<Record<keyof MethodOptions, readonly Method[]>>
> = {
  dropout: ADAPTERS,
  rslora: ["lora"],
  dora: ["lora", "lorasc"],
  "lora-plus": ["lora"],
  ranks: ["dylora"],
  "rank-mode": ["dylora"],
  "rank-draw": ["dylora"],
  stages: ["lorasc"],
  "slow-rate": ["lorasc"],
  decay: ["lorasc"],
  noise: ["lorasc"],
  layers: ["last-layers"],
};

/** Whether a method's result is an adapter, and not a model. */
export function makesAdapter(method: Method): boolean {
  return ADAPTERS.includes(method);
}

/** Throws for options of another method than the one chosen, and for those that do not fit each other. */
export function checkMethod(values: MethodValues & TrainingValues): void {
  const { method, stages, steps, ranks, rank } = values;
  for (const [name, owners] of Object.entries(OWNERS)) {
    const option = name as keyof MethodOptions;
    if (owners.includes(method)) continue;
    if (values[option] === methodOptions[option].fallback) continue;
    throw new UsageError(
      `--${name} is for --method ${owners.join(" or ")}, not for ${method}`,
    );
  }
  if (method === "lorasc" && stages > steps) {
    throw new UsageError(
      `--stages ${stages} are more than the ${steps} steps; use --stages ${steps} or less`,
    );
  }
  const ascend = ranks?.every((b, i) => b > (ranks[i - 1] ?? 0)) ?? true;
  if (ranks && !(ascend && ranks.at(-1) === rank)) {
    throw new UsageError(
      `--ranks ${ranks.join(",")} must ascend to --rank, which is ${rank}`,
    );
  }
}
