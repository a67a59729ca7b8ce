/**
 * What adapters come to as changes of a dense weight: for merging, never for training.
 *
 * Letters: R rank; `in` and `out` are the features of a layer.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { concat, iota, type Tensor, where, zeros } from "../core/mod.ts";
import type { Lora, SlicedLora } from "../nn/adapter_forms.ts";
import { rowNorms } from "../nn/dora.ts";

/** The change [out, in] that adapters of a weight [out, in], or of its slices one below the other, make. */
export function updateOf(parts: SlicedLora, weight: Tensor): Tensor {
  const [out, into] = weight.shape as [number, number];
  const size = out / parts.length;
  const changes = parts.map((lora, i) =>
    lora
      ? change(lora, () => weight.slice([[i * size, (i + 1) * size]]))
      : zeros([size, into])
  );
  return changes.length > 1 ? concat(changes) : changes[0]!;
}

function change(lora: Lora, weight: () => Tensor): Tensor {
  const { a, b, scale, rank, magnitude } = lora;
  const used = rank
    ? where(iota([a.shape[0]!]).lt(rank).unsqueeze(1), a, 0)
    : a;
  const update = b.matmul(used).mul(scale);
  if (!magnitude) return update;
  const gain = magnitude.div(rowNorms(weight(), lora)).unsqueeze(1);
  return weight().mul(gain.sub(1)).add(update.mul(gain));
}
