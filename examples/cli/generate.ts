/**
 * The command `generate`: continues a prompt.
 *
 * @module
 */

import { random } from "../../core/mod.ts";
import { loadPeft } from "../../lora/mod.ts";
import { promptIds } from "../../nn/data/mod.ts";
import { beamSearch, generateText } from "../../nn/generate/mod.ts";
import { number, type Option, text, UsageError, type Values } from "./args.ts";
import {
  type CommandContext,
  type EngineOptions,
  engineOptions,
  openEngine,
} from "./job.ts";
import { type Loaded, loadModel, OWN_MODEL } from "./model.ts";

/** Options of `generate`. */
export type GenerateOptions = EngineOptions & {
  readonly model: Option<string>;
  readonly adapter: Option<string | null>;
  readonly prompt: Option<string>;
  readonly "max-new-tokens": Option<number>;
  readonly temperature: Option<number>;
  readonly "top-k": Option<number>;
  readonly "top-p": Option<number>;
  readonly "min-p": Option<number>;
  readonly "repetition-penalty": Option<number>;
  readonly beams: Option<number>;
  readonly stop: Option<string | null>;
  readonly seed: Option<number>;
};

/** Options of `generate`. */
export const generateOptions: GenerateOptions = {
  model: text(
    "DIR",
    "folder of the model, in Hugging Face's format",
    OWN_MODEL,
    `${OWN_MODEL}, which comes with Cotan`,
  ),
  adapter: text("DIR", "folder of a LoRA adapter, in PEFT's format", null),
  prompt: text(
    "TEXT",
    'what is continued; "… =>" asks for a completion, as finetune trains it',
    "Call me",
  ),
  "max-new-tokens": number("most tokens, as far as the context reaches", 100, {
    integer: true,
    min: 1,
  }),
  temperature: number("0 takes the likeliest token", 0.6, { min: 0 }),
  "top-k": number("draws from the likeliest N; 0 from all", 40, {
    integer: true,
    min: 0,
  }),
  "top-p": number("draws from those that together are this likely", 1, {
    min: 1e-6,
    max: 1,
  }),
  "min-p": number(
    "draws from those this many times as likely as the likeliest",
    0,
    { min: 0, max: 1 },
  ),
  "repetition-penalty": number("above 1 makes repetition less likely", 1, {
    min: 1e-6,
  }),
  beams: number("above 1 searches with so many beams, and draws nothing", 1, {
    integer: true,
    min: 1,
  }),
  stop: text("TEXT", "ends the text, and is not printed", null),
  seed: number("the same seed gives the same text", 0, {
    integer: true,
    min: 0,
  }),
  ...engineOptions,
};

/** Runs the command; returns whether it came to its end. */
export async function runGenerate(
  values: Values<GenerateOptions>,
  { terminal, signal }: CommandContext,
): Promise<boolean> {
  using _ = await openEngine(values);
  const loaded = await loadModel(values.model);
  const { model, params: base, tokenizer } = loaded;
  const params = values.adapter === null
    ? base
    : await loadPeft(values.adapter, base);
  const context = model.config.max_position_embeddings;
  const ids = promptIds(values.prompt, tokenizer, { separator: "" });
  if (ids.length >= context) {
    throw new UsageError(
      `--prompt has ${ids.length} tokens, and the model's context of ${context} leaves no room to go on; use a shorter one`,
    );
  }
  terminal.write(tokenizer.decode(ids));
  const maxNewTokens = Math.min(
    values["max-new-tokens"],
    context - ids.length,
  );
  const given = { ...values, maxNewTokens };
  const pieces = values.beams > 1
    ? searchText({ ...loaded, params }, ids, given, signal)
    : drawText({ ...loaded, params }, ids, given, signal);
  for await (const piece of pieces) terminal.write(piece);
  terminal.line();
  return true;
}

/** Values of the options, with as many new tokens as the context has room for. */
type Given = Values<GenerateOptions> & { readonly maxNewTokens: number };

/** Text as it is drawn. */
async function* drawText(
  { model, params, tokenizer }: Loaded,
  ids: readonly number[],
  values: Given,
  signal: AbortSignal,
): AsyncGenerator<string, void, undefined> {
  using key = random.key(values.seed);
  const topK = values["top-k"];
  yield* generateText(model, params, tokenizer, ids, {
    maxNewTokens: values.maxNewTokens,
    temperature: values.temperature,
    ...topK > 0 && { topK },
    topP: values["top-p"],
    minP: values["min-p"],
    repetitionPenalty: values["repetition-penalty"],
    ...values.stop !== null && { stop: values.stop },
    key,
    signal,
  });
}

/** The text that a beam search finds, up to a stop text. */
async function* searchText(
  { model, params, tokenizer }: Loaded,
  ids: readonly number[],
  values: Given,
  signal: AbortSignal,
): AsyncGenerator<string, void, undefined> {
  const { eosId } = tokenizer;
  const [found] = await beamSearch(model, params, ids, {
    beams: values.beams,
    maxNewTokens: values.maxNewTokens,
    repetitionPenalty: values["repetition-penalty"],
    ...eosId !== null && { stop: eosId },
    signal,
  });
  const prompt = tokenizer.decode(ids);
  const text = tokenizer.decode([...ids, ...found!.ids]).slice(prompt.length);
  yield values.stop === null ? text : text.split(values.stop, 1)[0]!;
}
