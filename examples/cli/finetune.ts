/**
 * The command `finetune`: adapts a model to data by LoRA or one of its kin, or trains all or a part of it.
 *
 * @module
 */

import { tree } from "../../core/mod.ts";
import { report } from "../../lora/mod.ts";
import { warmupLinear } from "../../nn/optim/mod.ts";
import { flag, type Option, text, UsageError, type Values } from "./args.ts";
import {
  type DataOptions,
  dataOptions,
  loadExamples,
  prepareRows,
  samplePrompt,
} from "./data.ts";
import {
  checkOut,
  type CommandContext,
  openEngine,
  outFolder,
  runJob,
  type TrainingOptions,
  trainingOptions,
  warmupSteps,
} from "./job.ts";
import { describeModel, loadModel, OWN_MODEL } from "./model.ts";
import { learnerOf } from "./learners.ts";
import {
  checkMethod,
  makesAdapter,
  type MethodOptions,
  methodOptions,
} from "./methods.ts";
import { saveResult, verifyResult } from "./result.ts";
import {
  type Course,
  loadStanding,
  removeStanding,
  saveStanding,
} from "./resume.ts";

/** Tokens of a row where nobody says how many. */
const USUAL_SEQ = 128;

/** Options of `finetune`. */
export type FinetuneOptions = DataOptions & TrainingOptions & MethodOptions & {
  readonly model: Option<string>;
  readonly "completion-only": Option<boolean>;
  readonly resume: Option<boolean>;
  readonly out: Option<string | null>;
};

/** Options of `finetune`. */
export const finetuneOptions: FinetuneOptions = {
  model: text(
    "DIR",
    "folder of the model, in Hugging Face's format",
    OWN_MODEL,
    `${OWN_MODEL}, which comes with Cotan`,
  ),
  ...dataOptions("sotu", USUAL_SEQ),
  ...methodOptions,
  "completion-only": flag("learn completions alone, not prompts"),
  ...trainingOptions({
    steps: 110,
    batch: 8,
    lr: 0.005,
    weightDecay: 0,
    saveEvery: 50,
    logEvery: 10,
  }),
  out: text("DIR", "folder of the result", null, "out/MODEL-DATA-METHOD"),
  resume: flag(
    "go on with the run that was stopped in the folder of the result",
  ),
};

/** Options that a run which goes on may change. */
const FREE = [
  "backend",
  "blas",
  "save-every",
  "log-every",
  "prompt",
  "sample-tokens",
];

/** Runs the command; returns whether it came to its end. */
export async function finetune(
  values: Values<FinetuneOptions>,
  { terminal, signal }: CommandContext,
): Promise<boolean> {
  const { model: name, method, steps } = values;
  checkMethod(values);
  if (values.resume && method === "lorasc") {
    throw new UsageError(
      "--resume cannot go on with a cascade: its slow weights are not kept; start anew",
    );
  }
  const warmup = warmupSteps(values);
  const out = await checkOut(
    values.out ?? outFolder(name, values.data, method),
  );
  const examples = await loadExamples(values);
  using engine = await openEngine(values);
  const loaded = await loadModel(name);
  const { model, tokenizer, params } = loaded;
  const hasTalk = [...examples.train, ...examples.valid].some((example) =>
    "messages" in example
  );
  const chat = hasTalk ? await tokenizer.chatTemplate() : undefined;
  const data = prepareRows(examples, tokenizer, values, {
    context: model.config.max_position_embeddings,
    usual: USUAL_SEQ,
    completionOnly: values["completion-only"],
    ...(chat && { chat }),
  });
  const schedule = warmupLinear({ peak: values.lr, warmup, steps });
  const learner = learnerOf(params, values, schedule);
  terminal.line(`model    ${name}: ${describeModel(model.config, params)}`);
  terminal.line(`data     ${values.data}: ${data.summary}`);
  terminal.line(`backend  ${engine.name}`);
  if (makesAdapter(method)) {
    const start = tree.merge(learner.trainable, learner.frozen);
    terminal.line(`\n${String(await report(start)).replace(/^/gm, "  ")}`);
  }
  const course = courseOf(values);
  const from = values.resume
    ? await loadStanding(out, learner, course)
    : undefined;
  if (from) terminal.line(`resumed  after ${from.steps} of ${steps} steps`);
  const trained = await runJob({
    ...data,
    ...(from && { from }),
    model,
    tokenizer,
    start: params,
    learner,
    schedule,
    prompt: samplePrompt(values.prompt, data.held, tokenizer, chat),
    values,
    out,
    save: async (params, standing) => {
      await saveResult(params, loaded, { out, method, name });
      if (standing.steps === steps) await removeStanding(out);
      else if (!learner.stages) await saveStanding(out, standing, course);
    },
    terminal,
    signal,
  });
  if (!trained) return false;
  const { valid } = data;
  await verifyResult(trained, loaded, { out, method, valid, terminal });
  const use = makesAdapter(method)
    ? `--model ${name} --adapter ${out}`
    : `--model ${out}`;
  terminal.line(`\ntry it: deno task generate ${use} --prompt "…"`);
  return true;
}

/** The options that the course of a run depends on. */
function courseOf(values: Values<FinetuneOptions>): Course {
  return Object.fromEntries(
    Object.entries(values).filter(([name]) =>
      ![...FREE, "resume", "out"].includes(name)
    ),
  );
}
