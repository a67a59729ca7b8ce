/**
 * The command `finetune`: adapts a model to data by LoRA, or trains all of it.
 *
 * @module
 */

import { init, random, tree } from "../../core/mod.ts";
import { isAdapter, lora, report } from "../../lora/mod.ts";
import { adamw, warmupLinear } from "../../nn/optim/mod.ts";
import {
  choice,
  flag,
  list,
  number,
  type Option,
  text,
  type Values,
} from "./args.ts";
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
  outFolder,
  runJob,
  type TrainingOptions,
  trainingOptions,
  warmupSteps,
} from "./job.ts";
import { describeModel, loadModel, OWN_MODEL } from "./model.ts";
import { type Method, saveResult, verifyResult } from "./result.ts";

/** Tokens of a row where nobody says how many. */
const USUAL_SEQ = 128;

/** Options of `finetune`. */
export type FinetuneOptions = DataOptions & TrainingOptions & {
  readonly model: Option<string>;
  readonly method: Option<Method>;
  readonly rank: Option<number>;
  readonly alpha: Option<number>;
  readonly targets: Option<readonly string[]>;
  readonly "completion-only": Option<boolean>;
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
  method: choice(["lora", "full"], "what is trained", "lora"),
  rank: number("rank of the adapters", 8, { integer: true, min: 1 }),
  alpha: number("the adapters count alpha / rank times", 16, { min: 1e-6 }),
  targets: list("layers with adapters, or all-linear", ["all-linear"]),
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
};

/** Runs the command; returns whether it came to its end. */
export async function finetune(
  values: Values<FinetuneOptions>,
  { terminal, signal }: CommandContext,
): Promise<boolean> {
  const { model: name, method, seed, steps } = values;
  const warmup = warmupSteps(values);
  const out = await checkOut(
    values.out ?? outFolder(name, values.data, method),
  );
  const examples = await loadExamples(values);
  using engine = await init({ backend: values.backend });
  const loaded = await loadModel(name);
  const { model, tokenizer, params } = loaded;
  const data = prepareRows(examples, tokenizer, values, {
    context: model.config.max_position_embeddings,
    usual: USUAL_SEQ,
    completionOnly: values["completion-only"],
  });
  const targets = values.targets.length === 1
    ? values.targets[0]!
    : values.targets;
  using key = random.key(seed);
  const start = method === "lora"
    ? lora(params, { ...values, targets, key })
    : params;
  const [trainable, frozen] = tree.partition(
    start,
    method === "lora" ? isAdapter : () => true,
  );
  terminal.line(`model    ${name}: ${describeModel(model.config, params)}`);
  terminal.line(`data     ${values.data}: ${data.summary}`);
  terminal.line(`backend  ${engine.name}`);
  if (method === "lora") {
    terminal.line(`\n${String(await report(start)).replace(/^/gm, "  ")}`);
  }
  const schedule = warmupLinear({ peak: values.lr, warmup, steps });
  const trained = await runJob({
    ...data,
    model,
    tokenizer,
    trainable,
    whole: (params) => tree.merge(params, frozen),
    schedule,
    optimizer: adamw({
      learningRate: schedule,
      weightDecay: values["weight-decay"],
    }),
    prompt: samplePrompt(values.prompt, data.held, tokenizer),
    values,
    out,
    save: (params) => saveResult(params, loaded, { out, method, name }),
    terminal,
    signal,
  });
  if (!trained) return false;
  const { valid } = data;
  await verifyResult(trained, loaded, { out, method, valid, terminal });
  const use = method === "lora"
    ? `--model ${name} --adapter ${out}`
    : `--model ${out}`;
  terminal.line(`\ntry it: deno task generate ${use} --prompt "…"`);
  return true;
}
