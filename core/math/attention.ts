/**
 * Scaled dot-product attention, and its gradient, as functions that a backend may have kernels for.
 *
 * Letters: H query heads, K key and value heads, G = H / K, T time, S source time, D head size.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { currentRuntime } from "../context.ts";
import { fused } from "../fused.ts";
import type { AttentionSpec } from "../fused_spec.ts";
import { sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { evaluate } from "../trace.ts";
import { iota } from "./create.ts";
import { add, and, cast, exp, gt, le, mul, sub, where } from "./elementwise.ts";
import { expand, reshape, transpose, unsqueeze } from "./movement.ts";
import { matmul } from "./products.ts";
import { logSumExp, max, softmax, sum } from "./reduce.ts";

/** Options of `dotProductAttention`. */
export interface DotProductAttentionOptions {
  /** What scores are multiplied by; 1 / √D. */
  readonly scale?: number;
  /** Whether the query at position t sees only keys up to t; false. */
  readonly causal?: boolean;
  /** How many keys back a causal query sees, itself included; Infinity. */
  readonly window?: number;
  /** Position of the first query among the keys, as i32 [1] or [..., 1] if it is traced, or [T] or [..., T] of all; 0. */
  readonly position?: number | Tensor;
  /** Bool [..., S]: false hides a key. */
  readonly mask?: Tensor | null | undefined;
}

/** Below every score, so that the weight is 0 exactly; and finite, so that a query that sees no key is not NaN. */
const HIDDEN = -1e38;

/** Fewest tokens for kernels of causal attention, and of attention where queries see more of the keys than this share. */
const LEAST_CAUSAL = 16, LEAST_WHOLE = 128, MOST_SEEN = 0.75;

/** The second where a BLAS makes the definition faster at any length: what it stores is what counts from here on. */
const LEAST_BESIDE_BLAS = 1024;

/**
 * `softmax(scale · q kᵀ) v`: q is [..., H, T, D], k and v are [..., K, S, D], the result is [..., H, T, D]. Query head h
 * reads key head ⌊h · K / H⌋; a query that sees no key gives zeros.
 *
 * Where the backend has kernels for it, neither the value nor the gradient stores a score (FlashAttention-2, arXiv
 * 2307.08691).
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { dotProductAttention, tensor } from "cotan";
 *
 * const q = tensor([[[1], [1]]]), v = tensor([[[2], [4]]]);
 * const seen = dotProductAttention(q, q, v, { causal: true });
 * assertEquals(await seen.toArray(), [[[2], [3]]]);
 * ```
 */
export function dotProductAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: DotProductAttentionOptions = {},
): Tensor {
  const { causal = false, position = 0, window = Infinity } = options;
  const { scale = 1 / Math.sqrt(q.shape.at(-1)!), mask } = options;
  return evaluate(() => {
    const masked = !!mask;
    const isTraced = typeof position !== "number";
    const first = isTraced ? null : position;
    const settings = { scale, causal, window, position: first, masked };
    const isEach = isTraced && position.shape.at(-1) !== 1;
    if (isEach || !pays(q, k, settings)) {
      const seen = visible(q, k, options);
      const isBlind = mask || causal && window < Infinity;
      return attend([q, k, v], scale, seen, !!isBlind).out;
    }
    const operands = [q, k, v].map(swapHeads);
    if (mask) operands.push(mask);
    if (isTraced) operands.push(expand(position, [...q.shape.slice(0, -3), 1]));
    return swapHeads(fusedAttention(settings, operands).out);
  });
}

/**
 * Whether kernels that the backend has for attention are to be preferred to its definition. They compute the scores
 * again for the gradient: seven products where the definition, which stores them, has six. Measured on wasm, their value
 * takes 0.8 to 0.98 of the time at any length. With the gradient they break even at 16 tokens of causal attention, where
 * hidden keys are skipped; where every query sees every key they take 1.1 to 1.2 of the time at 64 tokens, 1.06 to 1.15
 * at 128 and 256 as long as all scores fit in the caches, and 0.93 beyond. From 128 on, where scores outgrow queries, no
 * difference is left in a step of an encoder.
 */
function pays(q: Tensor, k: Tensor, settings: Settings): boolean {
  const { scale, causal, window, position } = settings;
  const [T, S] = [q, k].map(({ shape }) => shape.at(-2)!) as [number, number];
  const { fused, hasBlas } = currentRuntime().backend.limits;
  const isThere = fused?.has("attention") && fused.has("attentionGrad") &&
    sizeOf(q.shape) > 0 && sizeOf(k.shape) > 0;
  const first = position ?? 0;
  const isPlain = scale > 0 && Number.isInteger(first) && first >= 0 &&
    (window === Infinity || Number.isInteger(window));
  const seen = causal ? Math.min(first + T / 2, window) / S : 1;
  const least = seen <= MOST_SEEN
    ? LEAST_CAUSAL
    : hasBlas
    ? LEAST_BESIDE_BLAS
    : LEAST_WHOLE;
  return !!isThere && isPlain && T >= least;
}

/** Attention, and the logarithms of the sums that its weights are divided by. */
export type Attended = { readonly out: Tensor; readonly logSum: Tensor };

/** What the gradient is computed from. */
type Residuals = Attended & { readonly args: readonly Tensor[] };

/** What all kernels of one attention know. */
export type Settings = Omit<AttentionSpec, "kind">;

/**
 * Attention of q [..., T, H, D] to k and v [..., S, K, D], the order in which projections give them, and a mask and a
 * position [..., 1] if there are: out like q, logSum [..., T, H].
 */
export function fusedAttention(settings: Settings, args: Tensor[]): Attended {
  const { scale, masked, causal } = settings;
  const definition = (...[q, k, v, ...rest]: Tensor[]): Attended => {
    const heads = [q!, k!, v!].map(swapHeads);
    const seen = visible(heads[0]!, heads[1]!, given(settings, rest));
    const { out, logSum } = attend(heads, scale, seen, masked || causal);
    return { out: swapHeads(out), logSum: swapLast(logSum) };
  };
  const attention = fused<Tensor[], Attended, Residuals>(
    { ...settings, kind: "attention" },
    definition,
    {
      fwd: (...args) => {
        const out = fusedAttention(settings, args);
        return { out, residuals: { args, ...out } };
      },
      bwd: ({ args: [q, k, v, ...rest], out, logSum }, ct) => {
        // D in equation 4 of FlashAttention (arXiv 2205.14135), less what flows to logSum: dS = P (dP - delta).
        const products = sum(mul(ct.out, out), { axis: -1 });
        const delta = sub(products, ct.logSum);
        const operands = [q!, k!, v!, ct.out, logSum, delta, ...rest];
        const { dq, dk, dv } = fusedGradient(settings, operands);
        return [dq, dk, dv, ...rest.map(() => null)];
      },
    },
  );
  return attention(...args);
}

/** The cotangents of q, k and v from these, that of the result, logSum, delta, and what tells which keys are seen. */
function fusedGradient(
  settings: Settings,
  args: Tensor[],
): { dq: Tensor; dk: Tensor; dv: Tensor } {
  const definition = (
    ...[q, k, v, ct, logSum, delta, ...rest]: Tensor[]
  ): { dq: Tensor; dk: Tensor; dv: Tensor } => {
    const { scale } = settings;
    const [query, key, value, flowing] = [q!, k!, v!, ct!].map(swapHeads);
    const seen = visible(query!, key!, given(settings, rest));
    const [rows, cts] = [query!, flowing!].map((x) => rowsBy(key!, x));
    const column = (x: Tensor) =>
      reshape(swapLast(x), [...rows!.shape.slice(0, -1), 1]);
    const weights = exp(sub(scoresOf(rows!, key!, scale), column(logSum!)));
    const p = seen ? where(seen, weights, 0) : weights;
    const dp = matmul(cts!, swapLast(value!));
    const ds = mul(mul(p, sub(dp, column(delta!))), scale);
    return {
      dq: swapHeads(reshape(matmul(ds, key!), query!.shape)),
      dk: swapHeads(matmul(swapLast(ds), rows!)),
      dv: swapHeads(matmul(swapLast(p), cts!)),
    };
  };
  return fused({ ...settings, kind: "attentionGrad" }, definition)(...args);
}

/** Settings with the operands that tell which keys are seen: a mask and a position, if there are. */
function given(
  { masked, position, ...rest }: Settings,
  operands: readonly Tensor[],
): DotProductAttentionOptions {
  return {
    ...rest,
    mask: masked ? operands[0] : null,
    position: position ?? operands.at(-1)!,
  };
}

/** Attention in plain primitives; `seen` broadcasts to [..., K, G·T, S], and may leave a query blind. */
function attend(
  [q, k, v]: readonly Tensor[],
  scale: number,
  seen: Tensor | null,
  mayBeBlind: boolean,
): Attended {
  const scores = scoresOf(rowsBy(k!, q!), k!, scale);
  const shown = seen ? where(seen, scores, HIDDEN) : scores;
  // Where every key of a query is hidden, its weights are even here.
  const any = seen && mayBeBlind &&
    gt(max(cast(seen, "f32"), { axis: -1, keepDims: true }), 0);
  const kept = (x: Tensor): Tensor => any ? where(any, x, 0) : x;
  const logSum = logSumExp(shown, { axis: -1, keepDims: true });
  return {
    out: reshape(kept(matmul(softmax(shown), v!)), q!.shape),
    logSum: reshape(kept(logSum), q!.shape.slice(0, -1)),
  };
}

/** The G query heads that share a key head are more rows of one product: k and v are never repeated. */
function rowsBy({ shape }: Tensor, q: Tensor): Tensor {
  const [H, T, D] = q.shape.slice(-3) as [number, number, number];
  const K = shape.at(-3)!;
  return reshape(q, [...q.shape.slice(0, -3), K, H / K * T, D]);
}

function scoresOf(rows: Tensor, k: Tensor, scale: number): Tensor {
  return mul(matmul(rows, swapLast(k)), scale);
}

/** Which keys each query sees: bool that broadcasts to [..., K, G·T, S], or null for all. */
function visible(
  q: Tensor,
  k: Tensor,
  options: DotProductAttentionOptions,
): Tensor | null {
  const { causal, mask, position = 0, window = Infinity } = options;
  const [H, T] = q.shape.slice(-3) as [number, number];
  const [K, S] = k.shape.slice(-3) as [number, number];
  const keys = mask
    ? reshape(mask, [...mask.shape.slice(0, -1), 1, 1, S])
    : null;
  if (!causal) return keys;
  const isEach = typeof position !== "number" && position.shape.at(-1) === T;
  const at = isEach
    ? position
    : position === 0
    ? iota([T])
    : add(iota([T]), position);
  const lead = at.shape.slice(0, -1);
  const rows = expand(unsqueeze(at, -2), [...lead, H / K, T]);
  const query = reshape(rows, [
    ...lead,
    ...lead.length > 0 ? [1] : [],
    H / K * T,
    1,
  ]);
  const key = iota([S]);
  const past = le(key, query); // [G·T, S] or [..., 1, G·T, S]
  const seen = window < Infinity
    ? and(past, gt(key, sub(query, window)))
    : past;
  return keys ? and(keys, seen) : seen;
}

/** From [..., T, H, D] to [..., H, T, D], or back. */
function swapHeads(x: Tensor): Tensor {
  return swap(x, x.shape.length - 3);
}

function swapLast(x: Tensor): Tensor {
  return swap(x, x.shape.length - 2);
}

/** Swaps an axis with the next. */
function swap(x: Tensor, axis: number): Tensor {
  const perm = x.shape.map((_, i) => i);
  return transpose(x, perm.with(axis, axis + 1).with(axis + 1, axis));
}
