/**
 * Heads of attention: split from the channels, and joined again.
 *
 * Letters: B batch, T time, H heads, D head size.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Tensor } from "../../core/mod.ts";

/** [B, T, H·D] to [B, H, T, D]. */
export function splitHeads(x: Tensor, heads: number): Tensor {
  const [B, T, size] = x.shape as [number, number, number];
  return x.reshape([B, T, heads, size / heads]).transpose([0, 2, 1, 3]);
}

/** [B, H, T, D] to [B, T, H·D]. */
export function joinHeads(x: Tensor): Tensor {
  const [B, H, T, D] = x.shape as [number, number, number, number];
  return x.transpose([0, 2, 1, 3]).reshape([B, T, H * D]);
}
