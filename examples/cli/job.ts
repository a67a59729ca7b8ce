/**
 * A training job, whatever is trained: held-out loss and a sample before, training with saves, the same again after.
 *
 * @module
 */

import {
  type BackendName,
  init,
  type OpenBackend,
  random,
  type Tree,
  tree,
} from "../../core/mod.ts";
import { type Rows, shuffledBatches } from "../../nn/data/mod.ts";
import type { Tokenizer } from "../../nn/checkpoint/mod.ts";
import { generateText } from "../../nn/generate/mod.ts";
import type { Model } from "../../nn/models/mod.ts";
import type { Schedule } from "../../nn/optim/mod.ts";
import {
  choice,
  number,
  type Option,
  text,
  UsageError,
  type Values,
} from "./args.ts";
import { heldOutLoss, languageLoss } from "./evaluate.ts";
import type { Learner } from "./learner.ts";
import { Metrics, runSession } from "./session.ts";
import { type Terminal, wrap } from "./terminal.ts";
import { type Standing, TrainingError } from "./train.ts";

/** What every command runs with. */
export interface CommandContext {
  /** Where it prints. */
  readonly terminal: Terminal;
  /** Ends it early. */
  readonly signal: AbortSignal;
}

/** Where a model is computed. */
export type BackendChoice = "auto" | BackendName;

/** Options of every command: where a model is computed. */
export type EngineOptions = {
  readonly backend: Option<BackendChoice>;
  readonly blas: Option<string | null>;
};

/** Options of every command: where a model is computed. */
export const engineOptions: EngineOptions = {
  backend: choice<BackendChoice>(
    ["auto", "webgpu", "wasm", "reference"],
    "where it is computed; auto takes a GPU if there is one",
    "auto",
  ),
  blas: text(
    "auto|PATH",
    "system's BLAS for products on wasm; needs --allow-ffi",
    null,
  ),
};

/** Opens the backend that the options ask for. */
export function openEngine(
  { backend, blas }: Values<EngineOptions>,
): Promise<OpenBackend> {
  return init({ backend, blas: blas ?? false });
}

/** Options that every training command has. */
export type TrainingOptions = EngineOptions & {
  readonly steps: Option<number>;
  readonly batch: Option<number>;
  readonly lr: Option<number>;
  readonly warmup: Option<number | null>;
  readonly "weight-decay": Option<number>;
  readonly seed: Option<number>;
  readonly "save-every": Option<number>;
  readonly "log-every": Option<number>;
  readonly prompt: Option<string | null>;
  readonly "sample-tokens": Option<number>;
};

/** Options that every training command has, with its defaults. */
export function trainingOptions(defaults: {
  readonly steps: number;
  readonly batch: number;
  readonly lr: number;
  readonly weightDecay: number;
  readonly saveEvery: number;
  readonly logEvery: number;
}): TrainingOptions {
  const count = (help: string, fallback: number, min: number) =>
    number(help, fallback, { integer: true, min });
  return {
    steps: count("steps of training", defaults.steps, 1),
    batch: count("rows in a step", defaults.batch, 1),
    lr: number("peak learning rate", defaults.lr, { min: 0 }),
    warmup: number("steps up to the peak; then the rate falls", null, {
      integer: true,
      min: 0,
      shown: "a fifteenth of the steps",
    }),
    "weight-decay": number("decay of the weights", defaults.weightDecay, {
      min: 0,
    }),
    seed: count("the same seed gives the same run", 0, 0),
    ...engineOptions,
    "save-every": count(
      "steps between saves; 0 for one at the end",
      defaults.saveEvery,
      0,
    ),
    "log-every": count("steps between lines of the log", defaults.logEvery, 1),
    prompt: text(
      "TEXT",
      "what the samples continue",
      null,
      "the start of a held-out example",
    ),
    "sample-tokens": count("tokens of a sample; 0 for none", 60, 0),
  };
}

/** Values of the options that every training command has. */
export type TrainingValues = Values<TrainingOptions>;

/** A job. */
export interface Job extends CommandContext {
  /** The model. */
  readonly model: Model;
  /** Its tokenizer. */
  readonly tokenizer: Tokenizer;
  /** The parameters before anything is trained. */
  readonly start: Tree;
  /** What is trained, and how. */
  readonly learner: Learner;
  /** Its learning rates. */
  readonly schedule: Schedule;
  /** Share of each target that is spread over all tokens; none when absent. */
  readonly labelSmoothing?: number;
  /** What is trained on. */
  readonly train: Rows;
  /** What is held out. */
  readonly valid: Rows;
  /** What a sample continues. */
  readonly prompt: readonly number[];
  /** Options of the command. */
  readonly values: TrainingValues;
  /** Folder of the result. */
  readonly out: string;
  /** Where an earlier run stopped, to go on from. */
  readonly from?: Standing;
  /** Writes the result so far. */
  save(params: Tree, standing: Standing): Promise<void>;
}

/** Runs a job: the trained parameters, or null where it was interrupted. */
export async function runJob(job: Job): Promise<Tree | null> {
  const { model, values, terminal, signal, out, from, learner } = job;
  const { labelSmoothing = 0 } = job;
  const { batch, steps, seed } = values;
  const before = from ? null : await evaluate(job, job.start, "before");
  await Deno.mkdir(out, { recursive: true });
  using metrics = new Metrics(`${out}/metrics.jsonl`, from !== undefined);
  if (before !== null) metrics.write({ step: 0, heldOutLoss: before });
  terminal.line();
  const save = async (standing: Standing): Promise<void> => {
    await checkFinite(standing.trainable);
    const { trainable, frozen } = standing;
    await job.save(learner.whole(trainable, frozen), standing);
  };
  const trained = await runSession({
    learner,
    schedule: job.schedule,
    terminal,
    signal,
    loss: (params, ids, labels) =>
      languageLoss(model, params, ids, labels, { labelSmoothing }),
    batches: shuffledBatches(job.train, {
      batch,
      seed,
      start: from?.steps ?? 0,
    }),
    shape: [batch, job.train.seq],
    ...(from && { from }),
    steps,
    logEvery: values["log-every"],
    saveEvery: values["save-every"] || Infinity,
    metrics,
    save,
  });
  const params = learner.whole(trained.trainable, trained.frozen);
  if (trained.steps > 0) await save(trained);
  for (const { leaf } of tree.leaves(trained.state)) leaf.dispose();
  if (signal.aborted) {
    terminal.line(
      trained.steps > 0
        ? `interrupted: what was learned in ${trained.steps} steps is in ${out}`
        : "interrupted before the first step: nothing was saved",
    );
    return null;
  }
  terminal.line(`saved in ${out}`);
  const after = await evaluate(job, params, "after");
  metrics.write({ step: steps, heldOutLoss: after });
  return params;
}

/** Prints the held-out loss and a sample. */
async function evaluate(
  job: Job,
  params: Tree,
  when: "before" | "after",
): Promise<number> {
  const { model, tokenizer, terminal, signal, values, prompt } = job;
  const { batch, seed } = values;
  const loss = await heldOutLoss(model, params, job.valid, { batch, signal });
  terminal.line(`\nheld-out loss ${when} training: ${loss.toFixed(4)}`);
  const room = model.config.max_position_embeddings - prompt.length;
  const maxNewTokens = Math.min(values["sample-tokens"], room);
  if (maxNewTokens < 1) return loss;
  let text = tokenizer.decode(prompt) + " ▸";
  using key = random.key(seed);
  const options = { maxNewTokens, temperature: 0.4, topK: 40, key, signal };
  const pieces = generateText(model, params, tokenizer, prompt, options);
  for await (const piece of pieces) text += piece;
  terminal.line(`sample ${when}:\n${wrap(text, terminal.columns())}`);
  return loss;
}

/** A loss is read a step late, and not at all after the last update: what replaces good weights is looked at first. */
async function checkFinite(params: Tree): Promise<void> {
  for (const { path, leaf } of tree.leaves(params)) {
    if ((await leaf.data()).every(Number.isFinite)) continue;
    throw new TrainingError(
      `${path} is not finite any more, and was not saved; a lower --lr may help`,
    );
  }
}

/** The steps of the warm-up, checked. */
export function warmupSteps({ warmup, steps }: TrainingValues): number {
  if (warmup === null) return Math.floor(steps / 15);
  if (warmup < steps) return warmup;
  throw new UsageError(
    `--warmup ${warmup} leaves nothing of the ${steps} steps; use --warmup ${
      steps - 1
    } or less, or more --steps`,
  );
}

/** A folder for results that is not something else yet. */
export async function checkOut(out: string): Promise<string> {
  try {
    if ((await Deno.stat(out)).isDirectory) return out;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return out;
    throw error;
  }
  throw new UsageError(`--out ${out} is a file; give a folder`);
}

/** A folder below `out/`, by the last names of paths. */
export function outFolder(...paths: readonly string[]): string {
  const names = paths.map((path) =>
    path.replace(/[\\/]+$/, "").split(/[\\/]/).at(-1)!.replace(/\..*$/, "")
  );
  return `out/${names.filter((name) => name !== "").join("-")}`;
}
