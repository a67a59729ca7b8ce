/**
 * The command `pretrain`: a model of Llama's architecture from nothing but text.
 *
 * @module
 */

import { random, tree } from "../../core/mod.ts";
import {
  createTokenizer,
  savePretrained,
  type Tokenizer,
} from "../../nn/checkpoint/mod.ts";
import { replaceFiles } from "../../nn/checkpoint/files.ts";
import {
  type Bpe,
  type Example,
  tokenizerConfigJson,
  tokenizerJson,
  trainBpe,
} from "../../nn/data/mod.ts";
import { llama } from "../../nn/models/mod.ts";
import {
  adamw,
  chain,
  clipByGlobalNorm,
  warmupCosine,
} from "../../nn/optim/mod.ts";
import { number, type Option, text, type Values } from "./args.ts";
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
import { plainLearner } from "./learner.ts";
import { describeModel } from "./model.ts";

/** Tokens of a row where nobody says how many: the context, so that every position is trained. */
const USUAL_SEQ = 256;

/** Sizes of the model. */
type SizeOptions = {
  readonly vocab: Option<number>;
  readonly layers: Option<number>;
  readonly hidden: Option<number>;
  readonly intermediate: Option<number>;
  readonly heads: Option<number>;
  readonly "kv-heads": Option<number | null>;
  readonly context: Option<number>;
  readonly "label-smoothing": Option<number>;
};

/** Options of `pretrain`. */
export type PretrainOptions = DataOptions & TrainingOptions & SizeOptions & {
  readonly out: Option<string | null>;
};

function size(help: string, fallback: number): Option<number> {
  return number(help, fallback, { integer: true, min: 1 });
}

/** Options of `pretrain`. */
export const pretrainOptions: PretrainOptions = {
  ...dataOptions("moby-dick", USUAL_SEQ),
  vocab: size("tokens of the tokenizer, at least 258", 1024),
  layers: size("blocks", 4),
  hidden: size("channels", 128),
  intermediate: size("channels within a feed-forward layer", 344),
  heads: size("heads of attention", 4),
  "kv-heads": number("heads of keys and values", null, {
    integer: true,
    min: 1,
    shown: "as many as heads",
  }),
  context: size("longest sequence the model is for", 256),
  "label-smoothing": number(
    "share of each target that is spread over all tokens, so that logits stay small",
    0.1,
    { min: 0, max: 1 },
  ),
  ...trainingOptions({
    steps: 2500,
    batch: 4,
    lr: 0.003,
    weightDecay: 0.1,
    saveEvery: 250,
    logEvery: 50,
  }),
  out: text("DIR", "folder of the model", null, "out/DATA-model"),
};

/** Runs the command; returns whether it came to its end. */
export async function pretrain(
  values: Values<PretrainOptions>,
  { terminal, signal }: CommandContext,
): Promise<boolean> {
  const { context, seed, steps } = values;
  const warmup = warmupSteps(values);
  const out = await checkOut(values.out ?? outFolder(values.data, "model"));
  const examples = await loadExamples(values);
  const bpe = trainBpe(examples.train.flatMap(textsOf), {
    vocabSize: values.vocab,
  });
  const files = tokenizerFiles(bpe, context);
  const tokenizer = await createTokenizer(files.json, files.config);
  const config = configOf(values, tokenizer);
  const model = llama(config);
  const data = prepareRows(examples, tokenizer, values, {
    context,
    usual: USUAL_SEQ,
  });
  using engine = await openEngine(values);
  using key = random.key(seed);
  const params = model.init(key);
  terminal.line(`model    ${describeModel(model.config, params)}`);
  terminal.line(`data     ${values.data}: ${data.summary}`);
  terminal.line(`backend  ${engine.name}`);
  const schedule = warmupCosine({
    peak: values.lr,
    end: values.lr / 10,
    warmup,
    steps,
  });
  const trained = await runJob({
    ...data,
    model,
    tokenizer,
    start: params,
    learner: plainLearner(
      tree.partition(params, () => true),
      chain(
        clipByGlobalNorm(1),
        adamw({
          learningRate: schedule,
          b2: 0.95,
          weightDecay: values["weight-decay"],
          // Norms and biases are no directions to keep small.
          mask: (_, leaf) => leaf.shape.length > 1,
        }),
      ),
    ),
    schedule,
    labelSmoothing: values["label-smoothing"],
    prompt: samplePrompt(values.prompt, data.held, tokenizer),
    values,
    out,
    save: async (params) => {
      await savePretrained(out, { params, config });
      await replaceFiles([
        { path: `${out}/tokenizer.json`, content: pretty(files.json) },
        { path: `${out}/tokenizer_config.json`, content: pretty(files.config) },
      ]);
    },
    terminal,
    signal,
  });
  return trained !== null;
}

function textsOf(example: Example): string[] {
  if ("text" in example) return [example.text];
  return "messages" in example
    ? example.messages.map(({ content }) => content)
    : [example.prompt, ` ${example.completion}`];
}

function tokenizerFiles(bpe: Bpe, context: number) {
  return {
    json: { ...tokenizerJson(bpe) },
    config: { ...tokenizerConfigJson(bpe, { context }) },
  };
}

function pretty(json: unknown): string {
  return `${JSON.stringify(json, null, 2)}\n`;
}

/** config.json, with the names of Hugging Face's LlamaConfig. */
function configOf(values: Values<SizeOptions>, tokenizer: Tokenizer) {
  return {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    vocab_size: tokenizer.vocabSize,
    hidden_size: values.hidden,
    intermediate_size: values.intermediate,
    num_hidden_layers: values.layers,
    num_attention_heads: values.heads,
    num_key_value_heads: values["kv-heads"] ?? values.heads,
    max_position_embeddings: values.context,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    hidden_act: "silu",
    tie_word_embeddings: true,
    initializer_range: 0.02,
    bos_token_id: tokenizer.bosId,
    eos_token_id: tokenizer.eosId,
    torch_dtype: "float32",
  };
}
