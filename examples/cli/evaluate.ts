/**
 * What a model does: its loss on held-out rows, its logits, and a sample of its text.
 *
 * B is the batch size, T the length of a row, V the vocabulary.
 *
 * @module
 */

import {
  type Data,
  jit,
  random,
  type Tensor,
  tensor,
  type Tree,
} from "../../core/mod.ts";
import { type Batch, orderedBatches, type Rows } from "../../nn/data/mod.ts";
import {
  crossEntropy,
  type CrossEntropyOptions,
} from "../../nn/cross_entropy.ts";
import { generate } from "../../nn/generate/mod.ts";
import type { Model } from "../../nn/models/mod.ts";
import type { Tokenizer } from "../../nn/checkpoint/tokenizer.ts";
import { breathe } from "./train.ts";

/** Cross entropy of ids [B, T] and labels [B · T]: the mean over the labels that count unless options say another. */
export function languageLoss<P extends Tree>(
  model: Model<P>,
  params: P,
  ids: Tensor,
  labels: Tensor,
  options: CrossEntropyOptions = {},
): Tensor {
  const logits = model.apply(params, ids);
  const flat = logits.reshape([-1, model.config.vocab_size]);
  return crossEntropy(flat, labels, options);
}

/** Mean loss of every label of the rows that counts. */
export async function heldOutLoss<P extends Tree>(
  model: Model<P>,
  params: P,
  rows: Rows,
  options: { readonly batch: number; readonly signal?: AbortSignal },
): Promise<number> {
  const { batch, signal } = options;
  using score = jit(
    (params: P, ids: Tensor, labels: Tensor) =>
      languageLoss(model, params, ids, labels, { reduction: "sum" }),
    { name: "the held-out loss" },
  );
  let sum = 0, count = 0;
  for (const { ids, labels, tokens } of orderedBatches(rows, { batch })) {
    signal?.throwIfAborted();
    using x = tensor(ids, { shape: [batch, rows.seq] });
    using y = tensor(labels);
    using loss = score(params, x, y);
    sum += await loss.item();
    count += tokens;
    await breathe();
  }
  return sum / count;
}

/** Logits [B, T, V] of a batch. */
export async function logitsOf<P extends Tree>(
  model: Model<P>,
  params: P,
  { ids }: Batch,
  seq: number,
): Promise<Data> {
  using apply = jit((params: P, ids: Tensor) => model.apply(params, ids));
  using x = tensor(ids, { shape: [ids.length / seq, seq] });
  using logits = apply(params, x);
  return await logits.data();
}

/** How text is drawn. */
export interface TextOptions {
  /** Most tokens. */
  readonly maxNewTokens: number;
  /** 0 takes the likeliest token. */
  readonly temperature: number;
  /** Only the likeliest so many; all for 0. */
  readonly topK: number;
  /** Only the likeliest that together have this probability. */
  readonly topP?: number;
  /** The same seed gives the same text. */
  readonly seed: number;
  /** Ends the text with an error. */
  readonly signal?: AbortSignal;
}

/** Text that continues ids, in pieces of whole characters, until the end token. */
export async function* continueText<P extends Tree>(
  model: Model<P>,
  params: P,
  tokenizer: Tokenizer,
  prompt: readonly number[],
  options: TextOptions,
): AsyncGenerator<string, void, undefined> {
  const { maxNewTokens, temperature, topK, topP, seed, signal } = options;
  using key = random.key(seed);
  const stream = generate(model, params, prompt, {
    maxNewTokens,
    temperature,
    key,
    ...(topK > 0 && { topK }),
    ...(topP !== undefined && { topP }),
    ...(signal && { signal }),
    ...(tokenizer.eosId !== null && { stop: tokenizer.eosId }),
  });
  // Decoded with the prompt, since a tokenizer may treat the start of a text in a way of its own.
  const ids = [...prompt];
  let shown = tokenizer.decode(ids);
  for await (const id of stream) {
    ids.push(id);
    const text = tokenizer.decode(ids);
    // A character of several tokens is shown when it is complete.
    if (text.endsWith("\uFFFD")) continue;
    yield text.slice(shown.length);
    shown = text;
    await breathe();
  }
}
