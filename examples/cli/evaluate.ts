/**
 * What a model does: its loss on held-out rows, and its logits.
 *
 * B is the batch size, T the length of a row, V the vocabulary.
 *
 * @module
 */

import {
  type Data,
  jit,
  type Tensor,
  tensor,
  type Tree,
} from "../../core/mod.ts";
import { type Batch, orderedBatches, type Rows } from "../../nn/data/mod.ts";
import {
  crossEntropy,
  type CrossEntropyOptions,
} from "../../nn/cross_entropy.ts";
import type { Model } from "../../nn/models/mod.ts";
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
