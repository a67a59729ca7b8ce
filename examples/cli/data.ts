/**
 * Rows of data that fit a model, and held-out rows.
 *
 * @module
 */

import {
  type Chat,
  type Example,
  holdOut,
  promptIds,
  readDataset,
  rowLengths,
  type Rows,
  type SequenceOptions,
  toRows,
} from "../../nn/data/mod.ts";
import type { Tokenizer } from "../../nn/checkpoint/mod.ts";
import { number, type Option, text, UsageError, type Values } from "./args.ts";
import { CORPUS_NAMES, loadDataset } from "./corpora.ts";
import { count } from "./model.ts";

/** Held-out rows where nobody says how many: enough to see the loss fall, few enough not to wait for it. */
const FEW_ROWS = 64;

/** Training examples of which the lengths are looked at. */
const LENGTHS = 200;

/** Options about data. */
export type DataOptions = {
  readonly data: Option<string>;
  readonly valid: Option<string | null>;
  readonly "valid-stride": Option<number | null>;
  readonly seq: Option<number | null>;
};

/** Options about data, with the command's own defaults. */
export function dataOptions(data: string, seq: number): DataOptions {
  return {
    data: text(
      "PATH",
      `file (.txt, .jsonl, either gzipped), folder with train and valid, ${CORPUS_NAMES}`,
      data,
    ),
    valid: text(
      "PATH",
      "file of held-out examples",
      null,
      "a twentieth of the data",
    ),
    "valid-stride": number("evaluate on every N-th held-out row", null, {
      integer: true,
      min: 1,
      shown: `as makes ${FEW_ROWS} rows`,
    }),
    seq: number("tokens of a row", null, {
      integer: true,
      min: 2,
      shown: `${seq}, or the model's context where that is less`,
    }),
  };
}

/** Values of the options about data. */
export type DataValues = Values<DataOptions>;

/** Examples to train on, and those held out. */
export interface Examples {
  /** To train on. */
  readonly train: readonly Example[];
  /** Held out. */
  readonly valid: readonly Example[];
}

/** Reads the examples. */
export async function loadExamples(
  values: Pick<DataValues, "data" | "valid">,
): Promise<Examples> {
  const { train, valid } = await loadDataset(values.data);
  if (values.valid !== null) {
    return { train, valid: (await readDataset(values.valid)).train };
  }
  return valid ? { train, valid } : holdOut(train);
}

/** Rows to train on, and held-out rows. */
export interface Prepared {
  /** Rows to train on. */
  readonly train: Rows;
  /** Held-out rows. A prompt with its completion stands there whole, as far as the context reaches. */
  readonly valid: Rows;
  /** The first held-out example. */
  readonly held: Example;
  /** The data in a line. */
  readonly summary: string;
}

/** Rows of examples, for a tokenizer and a context. */
export function prepareRows(
  examples: Examples,
  tokenizer: Tokenizer,
  values: DataValues,
  options: {
    /** Positions that the model is for. */
    readonly context: number;
    /** Tokens of a row where nobody says how many. */
    readonly usual: number;
    /** Whether only completions are learned. */
    readonly completionOnly?: boolean;
    /** The model's chat template, for conversations. */
    readonly chat?: Chat;
  },
): Prepared {
  const { context, usual } = options;
  const sequences = {
    completionOnly: options.completionOnly ?? false,
    ...(options.chat && { chat: options.chat }),
  };
  const seq = checkSeq(values.seq ?? Math.min(usual, context), context);
  const train = toRows(examples.train, tokenizer, { seq, ...sequences });
  const valid = heldOutRows(examples.valid, tokenizer, {
    seq,
    stride: values["valid-stride"],
    context,
    sequences,
  });
  const cut = cutShare(examples.train, tokenizer, seq, sequences);
  return {
    train,
    valid,
    held: examples.valid[0]!,
    summary: `${count(train.length)} rows of ${seq} tokens${cut}, ` +
      `${count(valid.length)} held-out row${valid.length === 1 ? "" : "s"}`,
  };
}

/** Positions of a training row, checked against the context of the model. */
function checkSeq(seq: number, context: number): number {
  if (seq <= context) return seq;
  throw new UsageError(
    `--seq ${seq} is longer than the model's context of ${context} tokens; use --seq ${context} or less`,
  );
}

function heldOutRows(
  examples: readonly Example[],
  tokenizer: Tokenizer,
  options: {
    readonly seq: number;
    readonly stride: number | null;
    readonly context: number;
    readonly sequences: SequenceOptions;
  },
): Rows {
  const { seq, context, sequences } = options;
  const pairs = examples.filter((example) => !("text" in example));
  if (pairs.length === 0) {
    const rows = toRows(examples, tokenizer, { seq });
    const stride = options.stride ?? Math.ceil(rows.length / FEW_ROWS);
    return {
      length: Math.ceil(rows.length / stride),
      seq,
      at: (i) => rows.at(i * stride),
    };
  }
  const stride = options.stride ?? Math.ceil(pairs.length / FEW_ROWS);
  const chosen = pairs.filter((_, i) => i % stride === 0);
  const longest = Math.max(...rowLengths(chosen, tokenizer, sequences));
  return toRows(chosen, tokenizer, {
    seq: Math.min(longest, context),
    ...sequences,
  });
}

/** How many rows are cut, by a look at some of them. */
function cutShare(
  examples: readonly Example[],
  tokenizer: Tokenizer,
  seq: number,
  sequences: SequenceOptions,
): string {
  const stride = Math.ceil(examples.length / LENGTHS);
  const some = examples.filter((_, i) => i % stride === 0);
  const lengths = rowLengths(some, tokenizer, sequences);
  const cut = lengths.filter((length) => length > seq).length;
  if (cut === 0) return "";
  const percent = Math.round(100 * cut / lengths.length);
  const longest = Math.max(...lengths);
  return ` (about ${percent} % are longer, up to ${longest}, and cut)`;
}

/** What a sample continues: the prompt given, or the start of a held-out example. */
export function samplePrompt(
  prompt: string | null,
  held: Example,
  tokenizer: Tokenizer,
  chat?: Chat,
): number[] {
  if ("messages" in held) {
    const question = held.messages.findIndex(({ role }) => role === "user");
    const messages = prompt === null
      ? held.messages.slice(0, question + 1)
      : [{ role: "user", content: prompt }];
    const opening = chat!(messages, { addGenerationPrompt: true });
    return Array.from(tokenizer.encode(opening, { addSpecial: false }));
  }
  if ("prompt" in held) return promptIds(prompt ?? held.prompt, tokenizer);
  const opening = held.text.trim().split(/\s+/).slice(0, 8).join(" ");
  return promptIds(prompt ?? opening, tokenizer, { separator: "" });
}
