/**
 * The cache of keys and values that decoding goes on from: fixed in size, written at a traced position.
 *
 * Letters: B batch, K key and value heads, T time, S capacity, D head size.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  iota,
  scope,
  type Shape,
  ShapeError,
  type Tensor,
  type TensorLike,
  where,
  zeros,
} from "../../core/mod.ts";

/** Keys and values of a layer. */
export type LayerCache = {
  /** Rotated keys, [B, K, S, D]. */
  readonly keys: Tensor;
  /** Values, [B, K, S, D]. */
  readonly values: Tensor;
};

/** Keys and values of each layer. */
export type Cache = readonly LayerCache[];

/** A cache of zeros: `shape` is [B, K, S, D]. */
export function emptyCache(layers: number, shape: Shape): Cache {
  return Array.from(
    { length: layers },
    () => ({ keys: zeros(shape), values: zeros(shape) }),
  );
}

/**
 * A cache tensor [B, K, S, D] with `fresh` [B, K, T, D] from a position on, one for all rows or i32 [B]; what would fall behind the end is dropped.
 *
 * Each slot chooses between what it holds and what is new, so the write is elementwise: the program is the same for all
 * positions, and a donated cache is written in place.
 */
export function writeCache(
  held: Tensor,
  fresh: Tensor,
  position: TensorLike,
): Tensor {
  const capacity = held.shape[2]!, time = fresh.shape[2]!;
  if (typeof position === "number" && position + time > capacity) {
    throw new ShapeError(
      `Cannot write ${time} positions from ${position} on into a cache of ${capacity}: make it larger`,
    );
  }
  return scope(() => {
    const offset = typeof position === "number"
      ? position
      : position.cast("i32").unsqueeze(-1);
    // The place in `fresh` of each slot: [S, 1] or [B, 1, S, 1].
    const place = iota([capacity]).sub(offset);
    const rows = place.shape.slice(0, -1);
    const from = place.reshape([...rows, ...rows.map(() => 1), capacity, 1]);
    const isNew = from.ge(0).and(from.lt(time));
    const spread = time === 1
      ? fresh
      : rows.length === 0
      ? fresh.take(place, { axis: 2 })
      : fresh.gather(from.expand(held.shape), { axis: 2 });
    return where(isNew, spread, held);
  });
}
