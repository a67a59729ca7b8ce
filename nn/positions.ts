/**
 * Positions of tokens: one offset for all rows of a batch, or one for each.
 *
 * Letters: B batch, T time.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  format,
  iota,
  scope,
  ShapeError,
  type Tensor,
  type TensorLike,
} from "../core/mod.ts";

/**
 * `position + t` for t < T, i32: [T] from a number or scalar, [B, T] from a tensor [B].
 *
 * Throws `ShapeError` for a tensor of more axes.
 */
export function positions(position: TensorLike, time: number): Tensor {
  const steps = iota([time]);
  if (typeof position === "number") {
    return position === 0 ? steps : steps.add(position);
  }
  if (position.shape.length > 1) {
    throw new ShapeError(
      `Cannot take positions from ${
        format(position)
      }: it must be a scalar, or [batch]`,
    );
  }
  return scope(() =>
    steps.add(position.cast("i32").unsqueeze(-1)).reshape([
      ...position.shape,
      time,
    ])
  );
}
