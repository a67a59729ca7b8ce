/**
 * The checks of what goes into a model.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  DTypeError,
  format,
  ShapeError,
  type Tensor,
  type TensorLike,
} from "../../core/mod.ts";

/** Throws where ids are not i32 [B, T], or reach beyond the number of positions, of which `name` is the field. */
export function checkIds(
  ids: Tensor,
  position: TensorLike,
  limit: number,
  name = "max_position_embeddings",
): void {
  if (ids.dtype !== "i32") {
    throw new DTypeError(
      `Cannot apply the model to ${format(ids)}: ids are i32; use cast`,
    );
  }
  if (ids.shape.length !== 2) {
    throw new ShapeError(
      `Cannot apply the model to ${format(ids)}: ids are [batch, time]`,
    );
  }
  const end = ids.shape[1]! + (typeof position === "number" ? position : 0);
  if (end > limit) {
    throw new ShapeError(
      `Cannot apply the model to ${
        format(ids)
      }: ${end} positions exceed ${name} ${limit}`,
    );
  }
}
