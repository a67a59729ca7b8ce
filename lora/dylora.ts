/**
 * DyLoRA: adapters that serve every rank up to their own (Valipour et al., arXiv 2210.07558).
 *
 * Each step draws a rank b, uses the first b rows of A and columns of B, and scales by alpha / b. The rank is a tensor in
 * the tree, so that one compiled program serves all of them.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { scope, tensor, type Tree } from "../core/mod.ts";
import { lora } from "./lora.ts";
import { mapLoras } from "./loras.ts";
import type { LoraOptions } from "./options.ts";

/** How `dylora` adapts a model. */
export interface DyloraOptions extends Omit<LoraOptions, "rslora"> {
  /** The ranks that are trained, ascending, the last one being `rank`; all of 1..rank when absent. */
  readonly ranks?: readonly number[];
  /**
   * Which rows of A and columns of B learn at rank b. "frozen", the default and what the authors released: those behind
   * the trained rank before b, which is row b alone where all ranks are trained. "full": the first b.
   */
  readonly mode?: "frozen" | "full";
}

/**
 * The model with adapters that serve every rank: as `lora` gives them, and in each also the rank in use, the largest at
 * first, and the ranks that are trained.
 *
 * The scale is alpha / b in training and at inference, as in the authors' code. Each step sets the rank, by `atRank`, to
 * one that `drawRank` draws. Throws as `lora` does, and `RangeError` for ranks that do not ascend to `rank`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, tree, zeros } from "cotan";
 * import { atRank, dylora } from "cotan/lora";
 *
 * const params = { q_proj: { weight: zeros([6, 4]), bias: null } };
 * const key = random.key(0);
 * const tuned = dylora(params, { targets: "q_proj", rank: 4, alpha: 8, key });
 * const scale = tree.leaves(atRank(tuned, 2)).find(({ path }) => path.endsWith("scale"));
 * assertEquals(await scale!.leaf.item(), 4); // alpha / 2
 * ```
 */
export function dylora<T extends Tree>(params: T, options: DyloraOptions): T {
  const { rank, mode = "frozen", ranks, ...rest } = options;
  const trained = ranks ?? Array.from({ length: rank }, (_, i) => i + 1);
  checkRanks(trained, rank);
  if (mode !== "frozen" && mode !== "full") {
    throw new RangeError(
      `Cannot train ranks in mode "${mode as string}": there are "frozen" and "full"`,
    );
  }
  return scope(() =>
    mapLoras(lora(params, { ...rest, rank }), "adapt", (adapter) => ({
      ...adapter,
      rank: tensor(rank, { dtype: "i32" }),
      ranks: tensor(Int32Array.from(trained)),
      ...(mode === "frozen" &&
        { from: tensor(trained.at(-2) ?? 0, { dtype: "i32" }) }),
    }))
  );
}

function checkRanks(ranks: readonly number[], rank: number): void {
  const ascend = ranks.every((b, i) =>
    Number.isInteger(b) && b > (ranks[i - 1] ?? 0)
  );
  if (ascend && ranks.at(-1) === rank) return;
  throw new RangeError(
    `Cannot train the ranks [${
      ranks.join(", ")
    }]: they must be integers that ascend from 1 or more to the rank, ${rank}`,
  );
}
