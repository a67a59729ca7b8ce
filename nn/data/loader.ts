/**
 * Batches as training takes them: shuffled by a key, of rows of one length or a few, from a cursor on.
 *
 * B is the batch size, T the length of a row.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Tensor } from "../../core/mod.ts";
import { type Batch, gather, shuffledOrder } from "./batches.ts";
import type { Rows } from "./rows.ts";

/** A place in the batches of a data set: plain data, to be saved beside a checkpoint. */
export type Cursor = {
  /** Rounds through the data that are done. */
  readonly epoch: number;
  /** Batches of this round that are done. */
  readonly batch: number;
};

/** A batch, and where to go on after it. */
export interface LoadedBatch extends Batch {
  /** [B, T]. */
  readonly shape: readonly [batch: number, seq: number];
  /** The place behind the batch. */
  readonly cursor: Cursor;
}

/** How batches are made. */
export interface LoadOptions {
  /** B; either this or `tokens`. */
  readonly batch?: number;
  /** Most positions of a batch: B is as many rows as fit, so that short rows come in larger batches. */
  readonly tokens?: number;
  /** Key of the order, a new one in each round; in order when absent. */
  readonly key?: Tensor | null;
  /** Rounds through the data; 1. */
  readonly epochs?: number;
  /** Where to start: at the beginning. */
  readonly cursor?: Cursor;
}

/**
 * Batches of rows, each row once a round. From the cursor of a batch on come exactly the batches that would have come
 * after it.
 *
 * Rows of several lengths, as `toBuckets` gives them, come in batches of one length each, so few shapes occur. The last
 * batch of a length is filled up with rows of which no label counts. Throws `RangeError` where there are no rows, and
 * for options out of range.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random } from "cotan";
 * import { batches } from "cotan/nn";
 *
 * const rows = {
 *   length: 3,
 *   seq: 1,
 *   at: (i: number) => ({ ids: Int32Array.of(i), labels: Int32Array.of(i) }),
 * };
 * const options = { batch: 2, key: random.key(7), epochs: 2 };
 * const all = await Array.fromAsync(batches(rows, options));
 * assertEquals(all.length, 4);
 * const { cursor } = all[2]!;
 * const rest = await Array.fromAsync(batches(rows, { ...options, cursor }));
 * assertEquals(rest, all.slice(3));
 * ```
 */
export function batches(
  rows: Rows | readonly Rows[],
  options: LoadOptions,
): AsyncGenerator<LoadedBatch, void> {
  const buckets = [rows].flat() as Rows[];
  check(buckets, options);
  return run(buckets, options);
}

async function* run(
  buckets: readonly Rows[],
  options: LoadOptions,
): AsyncGenerator<LoadedBatch, void> {
  const { key = null, epochs = 1, cursor = { epoch: 0, batch: 0 } } = options;
  const words = key && await key.data();
  const seed = words && words[0]! * 2 ** 21 + words[1]!;
  let start = cursor.batch;
  for (let epoch = cursor.epoch; epoch < epochs; epoch++) {
    const plan = roundOf(buckets, options, seed, epoch);
    for (let at = start; at < plan.length; at++) {
      const { rows, indices, batch } = plan[at]!;
      const isLast = at + 1 === plan.length;
      yield {
        ...gather(rows, indices, batch),
        shape: [batch, rows.seq],
        cursor: isLast
          ? { epoch: epoch + 1, batch: 0 }
          : { epoch, batch: at + 1 },
      };
    }
    start = 0;
  }
}

/** Which rows make a batch. */
interface Planned {
  readonly rows: Rows;
  readonly indices: readonly number[];
  readonly batch: number;
}

/** The batches of a round, in order. */
function roundOf(
  buckets: readonly Rows[],
  options: LoadOptions,
  seed: number | null,
  epoch: number,
): Planned[] {
  const orderOf = (size: number, stream: number): ArrayLike<number> =>
    seed === null
      ? Array.from({ length: size }, (_, i) => i)
      : shuffledOrder(size, seed + stream, epoch);
  const planned = buckets.flatMap((rows, stream): Planned[] => {
    const batch = rowsIn(rows, options);
    const order = Array.from(orderOf(rows.length, stream));
    return Array.from({ length: Math.ceil(order.length / batch) }, (_, i) => {
      return {
        rows,
        indices: order.slice(i * batch, (i + 1) * batch),
        batch,
      };
    });
  });
  const order = orderOf(planned.length, buckets.length);
  return Array.from(order, (i) => planned[i]!);
}

function rowsIn({ seq }: Rows, { batch, tokens }: LoadOptions): number {
  return batch ?? Math.max(1, Math.floor(tokens! / seq));
}

function check(buckets: readonly Rows[], options: LoadOptions): void {
  const { batch, tokens, epochs = 1, cursor } = options;
  const fail = (rule: string): never => {
    throw new RangeError(`Cannot make batches ${rule}`);
  };
  if (buckets.reduce((sum, { length }) => sum + length, 0) === 0) {
    fail("of no rows");
  }
  if ((batch === undefined) === (tokens === undefined)) {
    fail("without a size: give either batch or tokens");
  }
  const size = batch ?? tokens!;
  if (!Number.isInteger(size) || size < 1) {
    const what = batch === undefined ? "positions" : "rows";
    fail(`of ${size} ${what}: the size must be a whole number of at least 1`);
  }
  if (!(epochs === Infinity || Number.isInteger(epochs) && epochs >= 0)) {
    fail(`of ${epochs} rounds: epochs must be a whole number, or Infinity`);
  }
  for (const at of cursor ? [cursor.epoch, cursor.batch] : []) {
    if (Number.isInteger(at) && at >= 0) continue;
    fail(`from ${JSON.stringify(cursor)} on: a cursor has whole numbers`);
  }
}
