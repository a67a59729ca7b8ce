/**
 * The methods of `finetune`: what each trains, with which options.
 *
 * @module
 */

import { random, type Tensor, type Tree, tree } from "../../core/mod.ts";
import {
  atRank,
  type CascadeState,
  drawRank,
  dylora,
  isAdapter,
  isBias,
  lora,
  type LoraOptions,
  lorasc,
  rankwise,
  stagewise,
  topLayers,
  truncate,
  withDropout,
} from "../../lora/mod.ts";
import { adamw, partitioned, type Schedule } from "../../nn/optim/mod.ts";
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
import { type Learner, plainLearner } from "./learner.ts";
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

/** What a method trains of a model, and how. */
export function learnerOf(
  params: Tree,
  values: MethodValues & TrainingValues,
  schedule: Schedule,
): Learner {
  const { method } = values;
  const decay = values["weight-decay"];
  const make = (learningRate: Schedule) =>
    adamw({ learningRate, weightDecay: decay });
  const half = (selects: (path: string) => boolean): Learner => {
    const halves = tree.partition(params, selects);
    if (tree.leaves(halves[0]).length === 0) {
      throw new UsageError(
        `--method ${method} finds nothing to train: the model has no such parameters`,
      );
    }
    return plainLearner(halves, make(schedule));
  };
  switch (method) {
    case "full":
      return half(() => true);
    case "bitfit":
      return half(isBias);
    case "last-layers":
      return half(topLayers(params, values.layers));
    case "lora":
      return loraLearner(params, values, schedule, make);
    case "dylora":
      return dyloraLearner(params, values, schedule, make);
    case "lorasc":
      return lorascLearner(params, values, schedule, make);
  }
}

type Make = (learningRate: Schedule) => ReturnType<typeof adamw>;

/** The options of adapters, whichever. */
function adapterOptions(
  values: MethodValues & TrainingValues,
): Omit<LoraOptions, "key"> {
  const { rank, alpha, dropout, targets: [first, ...more] } = values;
  const targets = more.length === 0 ? first! : [first!, ...more];
  return { targets, rank, alpha, dropout };
}

/** A key for a purpose in a step. */
function keyAt(seed: number, purpose: number, step: Tensor): Tensor {
  return random.foldIn(random.foldIn(random.key(seed), purpose), step);
}

/** What keys are for. */
const DROPOUT = 1, RANK = 2, NOISE = 3, STAGE = 4;

/** The two halves as one, with what is dropped in a step. */
function merged(
  values: MethodValues & TrainingValues,
): (trainable: Tree, frozen: Tree, step: Tensor) => Tree {
  const { dropout, seed } = values;
  return (trainable, frozen, step) => {
    const whole = tree.merge(trainable, frozen);
    return dropout > 0 ? withDropout(whole, keyAt(seed, DROPOUT, step)) : whole;
  };
}

function loraLearner(
  params: Tree,
  values: MethodValues & TrainingValues,
  schedule: Schedule,
  make: Make,
): Learner {
  const { seed, rslora, dora, "lora-plus": ratio } = values;
  const tuned = lora(params, {
    ...adapterOptions(values),
    rslora,
    dora,
    key: random.key(seed),
  });
  const optimizer = ratio === null ? make(schedule) : partitioned([
    ["**.lora.b", make((count) => schedule(count).mul(ratio))],
  ], make(schedule));
  return {
    ...plainLearner(tree.partition(tuned, isAdapter), optimizer),
    at: merged(values),
  };
}

function dyloraLearner(
  params: Tree,
  values: MethodValues & TrainingValues,
  schedule: Schedule,
  make: Make,
): Learner {
  const { seed, rank, "rank-mode": mode, "rank-draw": distribution } = values;
  const ranks = values.ranks ?? Array.from({ length: rank }, (_, i) => i + 1);
  const tuned = dylora(params, {
    ...adapterOptions(values),
    ranks,
    mode,
    key: random.key(seed),
  });
  const optimizer = rankwise(make, { learningRate: schedule, ranks, mode });
  const rankAt = (step: Tensor) =>
    drawRank(keyAt(seed, RANK, step), { ranks, distribution });
  const whole = merged(values);
  const [trainable, frozen] = tree.partition(tuned, isAdapter);
  return {
    trainable,
    frozen,
    init: optimizer.init,
    at: (t, f, step) => atRank(whole(t, f, step), rankAt(step)),
    update: (grads, state, t, step) =>
      optimizer.update(
        grads,
        state as ReturnType<typeof optimizer.init>,
        t,
        rankAt(step),
      ),
    whole: (t, f) => truncate(tree.merge(t, f), rank),
  };
}

function lorascLearner(
  params: Tree,
  values: MethodValues & TrainingValues,
  schedule: Schedule,
  make: Make,
): Learner {
  const { seed, steps, stages, decay, noise, dora } = values;
  const cascade = lorasc({
    ...adapterOptions(values),
    slowRate: values["slow-rate"],
    decay,
    noise,
    dora,
  });
  const optimizer = stagewise(make, { learningRate: schedule });
  const key = (purpose: number, stage: number) =>
    random.foldIn(random.foldIn(random.key(seed), purpose), stage);
  let stage = 0;
  let state: CascadeState = cascade.init(params, key(STAGE, 0));
  const halves = () =>
    tree.partition(cascade.params(state, key(NOISE, stage)), isAdapter);
  const whole = merged(values);
  const [trainable, frozen] = halves();
  const after = (t: Tree, f: Tree) =>
    cascade.next(state, tree.merge(t, f), key(STAGE, stage + 1));
  return {
    trainable,
    frozen,
    init: optimizer.init,
    update: (grads, state, t) =>
      optimizer.update(
        grads,
        state as ReturnType<typeof optimizer.init>,
        t,
      ),
    at: whole,
    // What a save in the middle of a stage holds is what the slow weights would be, were it over.
    whole: (t, f) => cascade.adapter(after(t, f)),
    stages: {
      steps: Math.ceil(steps / stages),
      next: (end) => {
        state = after(end.trainable, end.frozen);
        stage++;
        const [trainable, frozen] = halves();
        const moments = end.state as ReturnType<typeof optimizer.init>;
        return {
          start: {
            trainable,
            frozen,
            state: optimizer.restart(moments, trainable),
          },
          kept: state,
        };
      },
    },
  };
}
