/**
 * Chat templates: what turns a list of messages into the text that a model was trained on, run by `@huggingface/jinja`.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Template } from "@huggingface/jinja";
import { FormatError } from "../../core/mod.ts";
import { isRecord, quote } from "./json.ts";
import { importLibrary } from "./lazy.ts";

/** A message of a chat, as templates read it. */
export type ChatMessage = {
  /** Who speaks: mostly "system", "user", "assistant" or "tool". */
  readonly role: string;
  /** What is said: a text, or what else the template takes. */
  readonly content?: unknown;
  readonly [key: string]: unknown;
};

/** What a chat template is given besides the messages; other keys are variables of the template. */
export type ChatOptions = {
  /** Whether the text ends where the assistant's answer begins; false. */
  readonly addGenerationPrompt?: boolean;
  /** Descriptions of functions that the model may call. */
  readonly tools?: readonly unknown[];
  /** Documents that the model may use. */
  readonly documents?: readonly unknown[];
  /** Name of one of several templates, or the text of another. */
  readonly template?: string;
  readonly [variable: string]: unknown;
};

/** The text of a chat. Throws `FormatError` where there is no template, or where the template refuses the chat. */
export type ChatTemplate = (
  messages: readonly ChatMessage[],
  options?: ChatOptions,
) => string;

const TOKENS = ["bos", "eos", "unk", "sep", "pad", "cls", "mask"];

/** Loads what renders chats by the `chat_template` of a tokenizer_config.json: a text, or several with names. */
export async function loadChatTemplate(
  config: Readonly<Record<string, unknown>>,
  textOf: (token: unknown) => string | null,
): Promise<ChatTemplate> {
  const { Template } = await importLibrary("jinja");
  const templates = templatesOf(config.chat_template);
  const tokens = TOKENS.flatMap((key) => {
    const text = textOf(config[`${key}_token`]);
    return text === null ? [] : [[`${key}_token`, text]];
  });
  const compiled = new Map<string, Template>();
  return (messages, options = {}) => {
    const {
      addGenerationPrompt = false,
      tools = null,
      documents = null,
      template,
      ...variables
    } = options;
    const text = choose(templates, template, tools !== null);
    try {
      const parsed = compiled.get(text) ?? new Template(text);
      compiled.set(text, parsed);
      return parsed.render({
        ...Object.fromEntries(tokens),
        messages,
        tools,
        documents,
        add_generation_prompt: addGenerationPrompt,
        ...variables,
      });
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new FormatError(`Cannot apply the chat template: ${why}`, {
        cause,
      });
    }
  };
}

/** The text of the template that is asked for; the names are those of Hugging Face's library. */
function choose(
  templates: ReadonlyMap<string, string>,
  wanted: string | undefined,
  hasTools: boolean,
): string {
  const names = [...templates.keys()].map(quote).join(", ");
  if (wanted !== undefined) {
    const named = templates.get(wanted);
    if (named !== undefined) return named;
    if (/\{[{%]/.test(wanted)) return wanted;
    throw new FormatError(
      `Cannot apply the chat template ${quote(wanted)}: the tokenizer has ${
        names || "none"
      }, and it is no text of a template`,
    );
  }
  const found = hasTools ? templates.get("tool_use") : undefined;
  const text = found ?? templates.get("default");
  if (text !== undefined) return text;
  throw new FormatError(
    names
      ? `Cannot choose a chat template: the tokenizer has ${names}, and none is the default; give the name of one as template`
      : "Cannot apply a chat template: the tokenizer has none; give its text as template",
  );
}

/** Templates by name; one without a name is the default. */
function templatesOf(given: unknown): Map<string, string> {
  if (typeof given === "string") return new Map([["default", given]]);
  const templates = new Map<string, string>();
  for (const entry of Array.isArray(given) ? given : []) {
    if (!isRecord(entry)) continue;
    const { name, template } = entry;
    if (typeof name === "string" && typeof template === "string") {
      templates.set(name, template);
    }
  }
  return templates;
}
