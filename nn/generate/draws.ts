/**
 * The random numbers of sampling, drawn many at once.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { random, type Tensor, tensor, vmap } from "../../core/mod.ts";

/** Numbers that are drawn and read back together. */
const BLOCK = 64;

/** The uniform number of each count, in [0, 1): that of `random.foldIn(key, count)`. Counts ascend. */
export function uniforms(key: Tensor): (count: number) => Promise<number> {
  const draw = vmap(
    (key: Tensor, count: Tensor) =>
      random.uniform(random.foldIn(key, count), [1]),
    { inAxes: [null, 0] },
  );
  let block: ArrayLike<number> = [], start = 0;
  return async (count) => {
    if (count - start >= block.length) {
      start = count;
      using counts = tensor(
        Int32Array.from({ length: BLOCK }, (_, i) => start + i),
      );
      using drawn = draw(key, counts);
      block = await drawn.data();
    }
    return block[count - start]!;
  };
}
