/**
 * The command `generate`: continues a prompt.
 *
 * @module
 */

import { init } from "../../core/mod.ts";
import { loadPeft } from "../../lora/mod.ts";
import { promptIds } from "../../nn/data/mod.ts";
import { number, type Option, text, UsageError, type Values } from "./args.ts";
import { continueText } from "./evaluate.ts";
import {
  type BackendChoice,
  backendOption,
  type CommandContext,
} from "./job.ts";
import { loadModel, OWN_MODEL } from "./model.ts";

/** Options of `generate`. */
export type GenerateOptions = {
  readonly model: Option<string>;
  readonly adapter: Option<string | null>;
  readonly prompt: Option<string>;
  readonly "max-new-tokens": Option<number>;
  readonly temperature: Option<number>;
  readonly "top-k": Option<number>;
  readonly "top-p": Option<number>;
  readonly seed: Option<number>;
  readonly backend: Option<BackendChoice>;
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
  seed: number("the same seed gives the same text", 0, {
    integer: true,
    min: 0,
  }),
  backend: backendOption,
};

/** Runs the command; returns whether it came to its end. */
export async function generateText(
  values: Values<GenerateOptions>,
  { terminal, signal }: CommandContext,
): Promise<boolean> {
  using _ = await init({ backend: values.backend });
  const { model, params: base, tokenizer } = await loadModel(values.model);
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
  const pieces = continueText(model, params, tokenizer, ids, {
    maxNewTokens: Math.min(values["max-new-tokens"], context - ids.length),
    temperature: values.temperature,
    topK: values["top-k"],
    topP: values["top-p"],
    seed: values.seed,
    signal,
  });
  for await (const piece of pieces) terminal.write(piece);
  terminal.line();
  return true;
}
