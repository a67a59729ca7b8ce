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
  concat,
  iota,
  scope,
  type Shape,
  ShapeError,
  type Tensor,
  type TensorLike,
  where,
  zeros,
} from "../../core/mod.ts";

/** Elements from which on a cache is large: writing one slot then takes less than a walk over all, by three kernels more. */
const LARGE = 2 ** 15;

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
 * The program is the same for all positions, and a donated cache is written in place.
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
    const size = held.shape.reduce((n, d) => n * d, 1);
    return time === 1 && size >= LARGE
      ? writeSlot(held, fresh, offset)
      : writeAll(held, fresh, offset);
  });
}

/** Touches one slot of each row: what it holds is subtracted, which leaves 0 exactly, and then the new added. */
function writeSlot(held: Tensor, fresh: Tensor, offset: TensorLike): Tensor {
  const [B, K, S, D] = held.shape as [number, number, number, number];
  const slot = zeros([2], { dtype: "i32" }).add(offset); // [2] or [B, 2]
  const index = slot.reshape([...slot.shape.slice(0, -1), 1, 2, 1])
    .expand([B, K, 2, D]);
  const old = held.gather(index.slice([null, null, [0, 1]]), { axis: 2 });
  const change = concat([old.neg(), fresh], { axis: 2 });
  const isInside = index.ge(0).and(index.lt(S));
  return held.scatterAdd(index, where(isInside, change, 0), { axis: 2 });
}

/** Each slot chooses between what it holds and what is new. */
function writeAll(held: Tensor, fresh: Tensor, offset: TensorLike): Tensor {
  const capacity = held.shape[2]!, time = fresh.shape[2]!;
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
}
