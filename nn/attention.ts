/**
 * Scaled dot-product attention, with fewer key and value heads than query heads where wanted.
 *
 * Letters: B batch, H heads, K key and value heads, G = H / K, T time, S source time, D head size.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  dotProductAttention,
  format,
  scope,
  ShapeError,
  type Tensor,
  type TensorLike,
} from "../core/mod.ts";
import { positions } from "./positions.ts";

/** Options of `attention`. */
export interface AttentionOptions {
  /** Whether the query at position t sees only keys up to t; false. */
  readonly causal?: boolean;
  /** [B, S], of any dtype: 0 hides a key. */
  readonly mask?: Tensor | null;
  /** What scores are multiplied by; 1 / √D. */
  readonly scale?: number;
  /** How many keys back a causal query sees, itself included; all. */
  readonly window?: number;
  /** Position of the first query among the keys, a scalar or [B], for causal decoding with a cache; may be traced; 0. */
  readonly position?: TensorLike;
}

/**
 * `softmax(scale · q kᵀ) v`: q is [B, H, T, D], k and v are [B, K, S, D], the result is [B, H, T, D].
 *
 * Query head h reads key head ⌊h · K / H⌋ (grouped queries, arXiv 2305.13245). A hidden key has weight 0 exactly; a
 * query that sees no key gives zeros. Throws `ShapeError` where the shapes do not fit.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { attention } from "cotan/nn";
 *
 * const q = tensor([[[[1], [1]]]]), v = tensor([[[[2], [4]]]]);
 * const seen = attention(q, q, v, { causal: true });
 * assertEquals(await seen.toArray(), [[[[2], [3]]]]);
 * ```
 */
export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: AttentionOptions = {},
): Tensor {
  const { mask = null, position = 0, ...rest } = options;
  checkHeads(q, k, v, mask);
  return scope(() =>
    dotProductAttention(q, k, v, {
      ...rest,
      mask: mask && (mask.dtype === "bool" ? mask : mask.ne(0)),
      position: typeof position === "number"
        ? position
        : positions(position, 1),
    })
  );
}

/** Checks that shapes fit. */
function checkHeads(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  mask: Tensor | null,
): void {
  const fail = (rule: string): never => {
    throw new ShapeError(
      `Cannot attend ${format(q)} to ${format(k)} and ${format(v)}: ${rule}`,
    );
  };
  if ([q, k, v].some(({ shape }) => shape.length !== 4)) {
    fail("each must be [batch, heads, time, head size]");
  }
  const [B, H, , D] = q.shape as [number, number, number, number];
  const [, K, S] = k.shape as [number, number, number, number];
  if (k.shape.some((d, i) => d !== v.shape[i])) {
    fail("keys and values differ in shape");
  }
  if (k.shape[0] !== B || k.shape[3] !== D) {
    fail("batch and head size must be those of the keys");
  }
  if (K === 0 || H % K !== 0) {
    fail(`${H} query heads do not divide by ${K} key heads`);
  }
  if (
    mask &&
    (mask.shape.length !== 2 || mask.shape[0] !== B || mask.shape[1] !== S)
  ) {
    fail(`the mask is ${format(mask)}, and must be [${B}, ${S}]`);
  }
}
