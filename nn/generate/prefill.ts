/**
 * Prompts go into a cache, in chunks of few widths, since each width is a program of its own.
 *
 * Letters: B batch, T time.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { jit, type Tensor, tensor, type Tree, tree } from "../../core/mod.ts";
import type { Cache, CausalModel } from "../models/mod.ts";
import type { Pause } from "./pause.ts";

/** The cache has a multiple of this many positions, so that prompts of other lengths find their kernels compiled. */
const CAPACITY_STEP = 64;

/** Chunks are of the first width that is not larger than what is left, the last one of all filled up. */
const WIDTHS = [128, 16];

/**
 * A cache of all tokens of each prompt but the last, which the first step takes in: so only steps compute logits.
 *
 * Rows are filled up behind their end. No token sees what stands behind it, and each step writes over one position of it.
 */
export async function prefill<P extends Tree>(
  model: CausalModel<P>,
  params: P,
  prompts: readonly (readonly number[])[],
  maxNewTokens: number,
  pause: Pause,
): Promise<Cache> {
  const longest = Math.max(...prompts.map(({ length }) => length));
  const capacity = Math.min(
    Math.ceil((longest + maxNewTokens) / CAPACITY_STEP) * CAPACITY_STEP,
    model.config.max_position_embeddings,
  );
  using fill = jit(
    (cache: Cache, ids: Tensor, position: Tensor) =>
      model.step(params, ids, { cache, position }).cache,
    { donate: [0], name: "the intake of a prompt" },
  );
  let cache = model.cache(prompts.length, capacity);
  try {
    for (let at = 0; at < longest - 1;) {
      await pause();
      const left = longest - 1 - at;
      const width = WIDTHS.find((width) => width <= left) ?? WIDTHS.at(-1)!;
      using ids = chunk(prompts, at, width);
      using position = tensor(Int32Array.of(at), { shape: [] });
      cache = fill(cache, ids, position);
      at += width;
    }
    return cache;
  } catch (error) {
    free(cache);
    throw error;
  }
}

/** Tokens of each row from a position on, i32 [B, T]; 0 behind the end. */
function chunk(
  prompts: readonly (readonly number[])[],
  at: number,
  width: number,
): Tensor {
  const ids = new Int32Array(prompts.length * width);
  prompts.forEach((prompt, i) =>
    ids.set(
      prompt.slice(at, Math.min(at + width, prompt.length - 1)),
      i * width,
    )
  );
  return tensor(ids, { shape: [prompts.length, width] });
}

/** Where the next token of each row goes: i32, a scalar where that is the same for all. */
export function endsOf(prompts: readonly (readonly number[])[]): Tensor {
  const ends = Int32Array.from(prompts, ({ length }) => length - 1);
  const isOne = ends.every((end) => end === ends[0]);
  return isOne ? tensor(ends.subarray(0, 1), { shape: [] }) : tensor(ends);
}

/** Frees the tensors of a tree. */
export function free(held: Tree): void {
  for (const { leaf } of tree.leaves(held)) leaf.dispose();
}
