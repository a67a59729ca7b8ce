/**
 * What each method of `finetune` learns, and how.
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
import { UsageError } from "./args.ts";
import { type Learner, plainLearner } from "./learner.ts";
import type { TrainingValues } from "./job.ts";
import type { MethodValues } from "./methods.ts";

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
