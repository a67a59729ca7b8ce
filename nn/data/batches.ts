/**
 * Batches of rows: shuffled for training, in order for evaluation.
 *
 * B is the batch size, T the length of a row.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Rows } from "./rows.ts";
import { IGNORED } from "./sequences.ts";

/** B rows, flat in row-major order. */
export interface Batch {
  /** B · T ids. */
  readonly ids: Int32Array;
  /** B · T labels. */
  readonly labels: Int32Array;
  /** B · T times 1 for a token, 0 for padding: what models with attention to both sides need. */
  readonly mask: Int32Array;
  /** Number of labels that count. */
  readonly tokens: number;
}

/** How rows are shuffled. */
export interface ShuffleOptions {
  /** B, rows in a batch. */
  readonly batch: number;
  /** The order depends on it alone; 0 when absent. */
  readonly seed?: number;
  /** Number of batches to pass over: training goes on where it stopped. 0 when absent. */
  readonly start?: number;
}

/**
 * Endless batches of shuffled rows. Every row comes once before any comes again; each round has an order of its own.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { shuffledBatches } from "cotan/nn";
 *
 * const rows = {
 *   length: 3,
 *   seq: 1,
 *   at: (i: number) => ({ ids: Int32Array.of(i), labels: Int32Array.of(i) }),
 * };
 * const [batch] = shuffledBatches(rows, { batch: 3, seed: 7 }).take(1);
 * assertEquals([...batch!.ids].sort(), [0, 1, 2]);
 * ```
 */
export function* shuffledBatches(
  rows: Rows,
  options: ShuffleOptions,
): Generator<Batch, never> {
  const { batch, seed = 0, start = 0 } = options;
  checkBatch(rows, batch);
  let round = -1;
  let order = new Uint32Array();
  for (let next = start * batch;;) {
    const indices: number[] = [];
    for (; indices.length < batch; next++) {
      const current = Math.floor(next / rows.length);
      if (current !== round) {
        round = current;
        order = shuffledOrder(rows.length, seed, round);
      }
      indices.push(order[next % rows.length]!);
    }
    yield gather(rows, indices, batch);
  }
}

/**
 * Every row once, in order; the last batch is filled up with rows of which no label counts.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { orderedBatches } from "cotan/nn";
 *
 * const rows = {
 *   length: 3,
 *   seq: 1,
 *   at: (i: number) => ({ ids: Int32Array.of(i), labels: Int32Array.of(i) }),
 * };
 * const batches = [...orderedBatches(rows, { batch: 2 })];
 * assertEquals(batches.map(({ labels }) => [...labels]), [[0, 1], [2, -100]]);
 * ```
 */
export function* orderedBatches(
  rows: Rows,
  options: { readonly batch: number },
): Generator<Batch, void> {
  const { batch } = options;
  checkBatch(rows, batch);
  for (let first = 0; first < rows.length; first += batch) {
    const size = Math.min(batch, rows.length - first);
    const indices = Array.from({ length: size }, (_, i) => first + i);
    yield gather(rows, indices, batch);
  }
}

function checkBatch(rows: Rows, batch: number): void {
  if (!Number.isInteger(batch) || batch < 1) {
    throw new RangeError(
      `Cannot make batches of ${batch} rows: the size must be a whole number of at least 1`,
    );
  }
  if (rows.length === 0) throw new RangeError("Cannot make batches of no rows");
}

/** The rows of some indices, filled up to a batch with rows of which no label counts. */
export function gather(
  rows: Rows,
  indices: readonly number[],
  batch: number,
): Batch {
  const { seq } = rows;
  const ids = new Int32Array(batch * seq);
  const labels = new Int32Array(batch * seq).fill(IGNORED);
  const mask = new Int32Array(batch * seq);
  indices.forEach((index, i) => {
    const row = rows.at(index);
    mask.fill(1, i * seq, i * seq + (row.tokens ?? seq));
    ids.set(row.ids, i * seq);
    labels.set(row.labels, i * seq);
  });
  const tokens = labels.reduce((n, label) => label === IGNORED ? n : n + 1, 0);
  return { ids, labels, mask, tokens };
}

/** The numbers below `size` in the order of a round, by Fisher and Yates. */
export function shuffledOrder(
  size: number,
  seed: number,
  round: number,
): Uint32Array<ArrayBuffer> {
  const order = Uint32Array.from({ length: size }, (_, i) => i);
  const key = mix(mix(seed >>> 0) ^ Math.floor(seed / 2 ** 32) ^ mix(~round));
  for (let i = size - 1; i > 0; i--) {
    const j = Math.floor((mix(key + i) / 2 ** 32) * (i + 1));
    const moved = order[i]!;
    order[i] = order[j]!;
    order[j] = moved;
  }
  return order;
}

/** The finalizer of MurmurHash3: 32 bits out of a counter. Order needs no better randomness than this. */
function mix(counter: number): number {
  let h = counter >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
