/**
 * Examples as sequences of token ids, with the label of each position.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { FormatError } from "../../core/mod.ts";
import type { Example, Message } from "./examples.ts";

/** Label of a position that has no part in the loss, as in PyTorch. */
export const IGNORED = -100;

/** What rows need of a tokenizer. */
export interface RowTokenizer {
  /** Ids of a text; with `addSpecial` false, without begin and end tokens. */
  encode(
    text: string,
    options: { readonly addSpecial: boolean },
  ): ArrayLike<number>;
  /** Id of the begin token, or null. */
  readonly bosId: number | null;
  /** Id of the end token, or null. */
  readonly eosId: number | null;
}

/** A model's chat template: the text of a conversation, and with `addGenerationPrompt` what opens the next answer. */
export type Chat = (
  messages: readonly Message[],
  options: { readonly addGenerationPrompt: boolean },
) => string;

/** How examples become sequences. */
export interface SequenceOptions {
  /** Whether only completions, or answers of the assistant, count in the loss; everything counts when absent. */
  readonly completionOnly?: boolean;
  /** What is put between prompt and completion; " =>" when absent. */
  readonly separator?: string;
  /** The model's chat template, which conversations need. */
  readonly chat?: Chat;
}

/** Ids, and the label of each: the next id, or -100 where that does not count. */
export interface Sequence {
  /** Ids. */
  readonly ids: readonly number[];
  /** Labels. */
  readonly labels: readonly number[];
}

/** The sequence of an example: what a text, a pair or a conversation is by itself. */
export function toSequence(
  example: Example,
  tokenizer: RowTokenizer,
  options: SequenceOptions = {},
): Sequence {
  if ("text" in example) return labelled(framed(tokenizer, example.text));
  if ("messages" in example) {
    return conversation(example.messages, tokenizer, options);
  }
  const { completionOnly = false, separator = " =>" } = options;
  const { prompt, completion } = example;
  // Encoded whole, so that the space before the completion becomes what the tokenizer makes of it within a text.
  const ids = framed(tokenizer, `${prompt}${separator} ${completion}`);
  if (!completionOnly) return labelled(ids);
  const opening = promptIds(prompt, tokenizer, { separator });
  return labelled(ids, [[shared(opening, ids), ids.length]]);
}

/**
 * The ids of a prompt alone: begin, prompt, separator. What generation continues, after training on such rows.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { promptIds } from "cotan/nn";
 *
 * const letters = {
 *   encode: (text: string) => [...text].map((c) => c.charCodeAt(0)),
 *   bosId: 1,
 *   eosId: 2,
 * };
 * assertEquals(promptIds("a", letters, { separator: "=" }), [1, 97, 61]);
 * ```
 */
export function promptIds(
  prompt: string,
  tokenizer: RowTokenizer,
  options: Pick<SequenceOptions, "separator"> = {},
): number[] {
  const { separator = " =>" } = options;
  return [...begin(tokenizer), ...encode(tokenizer, prompt + separator)];
}

/**
 * A conversation as the template writes it, special tokens included. An answer's labels begin after what opens it, which
 * is the same text that generation goes on from.
 */
function conversation(
  messages: readonly Message[],
  tokenizer: RowTokenizer,
  { chat, completionOnly = false }: SequenceOptions,
): Sequence {
  if (!chat) {
    throw new FormatError(
      "Cannot make rows of a conversation: there is no chat template; give one as `chat`",
    );
  }
  const render = (count: number, addGenerationPrompt: boolean) =>
    encode(tokenizer, chat(messages.slice(0, count), { addGenerationPrompt }));
  const ids = render(messages.length, false);
  if (!completionOnly) return labelled(ids);
  const answers = messages.flatMap(({ role }, i) =>
    role === "assistant"
      ? [[shared(render(i, true), ids), shared(render(i + 1, false), ids)]]
      : []
  );
  return labelled(ids, answers as [number, number][]);
}

/** How many ids two sequences begin with alike. */
function shared(a: readonly number[], b: readonly number[]): number {
  let count = 0;
  while (count < a.length && a[count] === b[count]) count++;
  return count;
}

/** Ids with labels, where ids within the ranges [from, to) are learned; all when absent. */
function labelled(
  ids: readonly number[],
  learned: readonly (readonly [number, number])[] = [[0, ids.length]],
): Sequence {
  const labels = ids.map((_, t) => {
    const next = t + 1;
    const counts = next < ids.length &&
      learned.some(([from, to]) => next >= from && next < to);
    return counts ? ids[next]! : IGNORED;
  });
  return { ids, labels };
}

/** Ids of a text between begin and end. */
export function framed(tokenizer: RowTokenizer, text: string): number[] {
  const end = tokenizer.eosId === null ? [] : [tokenizer.eosId];
  return [...begin(tokenizer), ...encode(tokenizer, text), ...end];
}

function begin(tokenizer: RowTokenizer): number[] {
  return tokenizer.bosId === null ? [] : [tokenizer.bosId];
}

function encode(tokenizer: RowTokenizer, text: string): number[] {
  return Array.from(tokenizer.encode(text, { addSpecial: false }));
}
