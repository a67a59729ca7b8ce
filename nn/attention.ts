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
  format,
  iota,
  scope,
  ShapeError,
  type Tensor,
  type TensorLike,
  where,
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

/** Below every score, so that the weight is 0 exactly; and finite, so that a query that sees no key is not NaN. */
const HIDDEN = -1e38;

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
  const { B, H, K, T, S, D } = checkHeads(q, k, v, options.mask ?? null);
  const { scale = 1 / Math.sqrt(D) } = options;
  return scope(() => {
    // The G query heads that share a key head are more rows of one product: k and v are never repeated.
    const rows = q.reshape([B, K, H / K * T, D]);
    const scores = rows.matmul(k.transpose([0, 1, 3, 2])).mul(scale);
    const seen = visible(H / K, T, S, options);
    const weights = (seen ? where(seen, scores, HIDDEN) : scores).softmax();
    const out = weights.matmul(v);
    // Where a mask or a window hides every key of a query, its weights are even here.
    const mayBeBlind = options.mask || options.window;
    const kept = seen && mayBeBlind ? where(seesAny(seen), out, 0) : out;
    return kept.reshape(q.shape);
  });
}

/** Whether a query sees a key at all: bool [..., G·T, 1]. */
function seesAny(seen: Tensor): Tensor {
  return seen.cast("f32").max({ axis: -1, keepDims: true }).gt(0);
}

/** Which keys each query sees: bool that broadcasts to [B, K, G·T, S], or null for all. */
function visible(
  G: number,
  T: number,
  S: number,
  options: AttentionOptions,
): Tensor | null {
  const { causal = false, mask, position = 0, window = Infinity } = options;
  const bool = mask && (mask.dtype === "bool" ? mask : mask.ne(0));
  const keys = bool ? bool.reshape([-1, 1, 1, S]) : null;
  if (!causal) return keys;
  const at = positions(position, T);
  const rows = at.shape.slice(0, -1); // [] or [B]
  const query = at.unsqueeze(-2).expand([...rows, G, T])
    .reshape([...rows, ...rows.map(() => 1), G * T, 1]);
  const key = iota([S]);
  const past = key.le(query); // [G·T, S] or [B, 1, G·T, S]
  const seen = window < Infinity ? past.and(key.gt(query.sub(window))) : past;
  return keys ? keys.and(seen) : seen;
}

function checkHeads(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  mask: Tensor | null,
): Record<"B" | "H" | "K" | "T" | "S" | "D", number> {
  const fail = (rule: string): never => {
    throw new ShapeError(
      `Cannot attend ${format(q)} to ${format(k)} and ${format(v)}: ${rule}`,
    );
  };
  if ([q, k, v].some(({ shape }) => shape.length !== 4)) {
    fail("each must be [batch, heads, time, head size]");
  }
  const [B, H, T, D] = q.shape as [number, number, number, number];
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
  return { B, H, K, T, S, D };
}
