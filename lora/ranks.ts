/**
 * The ranks of DyLoRA: set, drawn, evaluated, cut.
 *
 * Letters: R the rank of an adapter, b the rank in use.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  random,
  scan,
  scope,
  Tensor,
  tensor,
  type Tree,
  TreeError,
  where,
} from "../core/mod.ts";
import type { Lora } from "../nn/adapter_forms.ts";
import { mapLoras } from "./loras.ts";

/** An adapter of `dylora`. */
type RankedLora = Lora & {
  readonly rank: Tensor;
  readonly ranks: Tensor;
  readonly from?: Tensor;
};

/**
 * The model with its adapters of `dylora` at rank b: the first b rows of A and columns of B, scaled by alpha / b. A tensor
 * b, an i32 scalar, may be traced, so that one compiled program serves all ranks; it must be within 1..R, which cannot
 * be seen from the host.
 *
 * Throws `RangeError` for a number outside 1..R, and `TreeError` for adapters that are not of `dylora`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { ones, random } from "cotan";
 * import { atRank, dylora, truncate } from "cotan/lora";
 * import { linear } from "cotan/nn";
 *
 * const params = { weight: ones([6, 4]), bias: null };
 * const key = random.key(0);
 * const tuned = dylora({ q: params }, { targets: "q", rank: 4, alpha: 8, key });
 * const x = ones([1, 4]);
 * assertEquals(
 *   await linear(atRank(tuned, 2).q, x).data(),
 *   await linear(truncate(tuned, 2).q, x).data(),
 * );
 * ```
 */
export function atRank<T extends Tree>(tuned: T, b: number | Tensor): T {
  const what = `set rank ${typeof b === "number" ? b : String(b)}`;
  return scope(() =>
    mapLoras(tuned, what, (lora, path) => {
      const { rank, ranks, from, ...rest } = ranked(lora, path, what);
      if (typeof b === "number") checkRank(b, lora, path, what);
      const next = typeof b === "number"
        ? tensor(b, { dtype: "i32" })
        : b.cast("i32");
      return {
        ...rest,
        // The factor is 1 exactly where the rank stays.
        scale: rest.scale.mul(rank.cast("f32").div(next.cast("f32"))),
        rank: next,
        ranks,
        ...(from && { from: where(ranks.lt(next), ranks, 0).max() }),
      };
    })
  );
}

/**
 * The model with its adapters of `dylora` cut to rank b: ordinary adapters, which compute what those at rank b do.
 *
 * Exported to PEFT they have `r` b and alpha unchanged. Throws as `atRank` does.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, tree, zeros } from "cotan";
 * import { dylora, truncate } from "cotan/lora";
 *
 * const params = { q: { weight: zeros([6, 4]), bias: null } };
 * const key = random.key(0);
 * const tuned = dylora(params, { targets: "q", rank: 4, alpha: 8, key });
 * assertEquals(
 *   tree.leaves(truncate(tuned, 1)).map(({ path, leaf }) => `${path} ${leaf}`),
 *   ["q.weight f32[6, 4]", "q.lora.a f32[1, 4]", "q.lora.b f32[6, 1]", "q.lora.scale f32[]"],
 * );
 * ```
 */
export function truncate<T extends Tree>(tuned: T, b: number): T {
  const what = `cut to rank ${b}`;
  return scope(() =>
    mapLoras(tuned, what, (lora, path) => {
      const { rank, ranks: _ranks, from: _from, ...rest } = ranked(
        lora,
        path,
        what,
      );
      checkRank(b, lora, path, what);
      return {
        ...rest,
        a: lora.a.slice([[0, b]]),
        b: lora.b.slice([null, [0, b]]),
        scale: lora.scale.mul(rank.cast("f32").div(b)),
      };
    })
  );
}

/** How `drawRank` draws. */
export interface RankDistribution {
  /** The ranks to draw from, ascending: those that `dylora` was told to train. */
  readonly ranks: readonly number[];
  /** Each rank as likely as another, or the i-th of them as likely as p (1 - p)^i; "uniform". */
  readonly distribution?: "uniform" | "geometric";
  /** p of the geometric distribution, above 0 and below 1; 0.5. */
  readonly p?: number;
}

/**
 * A rank for a training step, an i32 scalar: the same for the whole model, and for all micro-batches of the step.
 *
 * The geometric distribution is cut at the last rank and scaled to sum to 1. Throws `RangeError` for no ranks and for p
 * outside (0, 1).
 *
 * @example
 * ```ts
 * import { assert } from "@std/assert";
 * import { random } from "cotan";
 * import { drawRank } from "cotan/lora";
 *
 * const b = await drawRank(random.key(3), { ranks: [1, 2, 4, 8] }).item();
 * assert([1, 2, 4, 8].includes(b));
 * ```
 */
export function drawRank(key: Tensor, options: RankDistribution): Tensor {
  const { ranks, distribution = "uniform", p = 0.5 } = options;
  if (ranks.length === 0) {
    throw new RangeError("Cannot draw a rank: there are no ranks to draw from");
  }
  if (!(p > 0 && p < 1)) {
    throw new RangeError(
      `Cannot draw a rank with p ${p}: it must be above 0 and below 1`,
    );
  }
  const ratio = distribution === "geometric" ? 1 - p : 1;
  return scope(() => {
    const logits = tensor(ranks.map((_, i) => i * Math.log(ratio)));
    const place = random.categorical(key, logits);
    return tensor(Int32Array.from(ranks)).take(place);
  });
}

/**
 * What `f` gives for the model at each rank, stacked: a loss for each rank, say. `f` is traced once, and runs once a rank.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { ones, random } from "cotan";
 * import { atEachRank, dylora } from "cotan/lora";
 * import { linear } from "cotan/nn";
 *
 * const params = { q: { weight: ones([6, 4]), bias: null } };
 * const key = random.key(0);
 * const tuned = dylora(params, { targets: "q", rank: 3, alpha: 8, key });
 * const losses = atEachRank(({ q }) => linear(q, ones([1, 4])).sum(), tuned, [1, 2, 3]);
 * assertEquals(await losses.toArray(), [24, 24, 24]); // b is 0 before training
 * ```
 */
export function atEachRank<T extends Tree>(
  f: (tuned: T) => Tensor,
  tuned: T,
  ranks: readonly number[],
): Tensor {
  return scope(() => {
    for (const b of ranks) atRank(tuned, b);
    const step = (_: null, b: Tensor) => ({
      carry: null,
      y: f(atRank(tuned, b)),
    });
    return scan(step, null, tensor(Int32Array.from(ranks))).ys;
  });
}

function ranked(lora: Lora, path: string, what: string): RankedLora {
  if (lora.rank instanceof Tensor && lora.ranks instanceof Tensor) {
    return lora as RankedLora;
  }
  throw new TreeError(
    `Cannot ${what}: the adapter at ${path} is of one rank; make it by dylora`,
  );
}

function checkRank(
  b: number,
  { a }: Lora,
  path: string,
  what: string,
): void {
  const most = a.shape[0]!;
  if (Number.isInteger(b) && b >= 1 && b <= most) return;
  throw new RangeError(
    `Cannot ${what}: the ranks of the adapter at ${path} are 1 to ${most}`,
  );
}
