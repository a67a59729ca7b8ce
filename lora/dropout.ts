/**
 * Dropout in the branches of adapters.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { scope, type Tensor, type Tree } from "../core/mod.ts";
import { layerKeys } from "./layer_keys.ts";
import { mapLoras } from "./loras.ts";

/**
 * The model as it is trained: adapters that have a rate of dropout drop that share of their own input, by a key of their
 * own. The same key drops the same; without this call nothing is dropped, which is what evaluation wants. Slices of a
 * weight share their input, and what is dropped of it.
 *
 * Throws `TreeError` where there is no adapter.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { grad, random, tree, zeros } from "cotan";
 * import { isAdapter, lora, withDropout } from "cotan/lora";
 *
 * const params = { q: { weight: zeros([6, 4]) } };
 * const key = random.key(0);
 * const tuned = lora(params, { targets: "q", rank: 2, alpha: 4, key, dropout: 0.1 });
 * const step = withDropout(tuned, random.foldIn(key, 1));
 * assertEquals(tree.leaves(step).map(({ path }) => path).at(-1), "q.lora.key");
 * ```
 */
export function withDropout<T extends Tree>(tuned: T, key: Tensor): T {
  const keyOf = layerKeys(tuned, key);
  return scope(() =>
    mapLoras(
      tuned,
      "drop inputs of adapters",
      (lora, _, layer) =>
        lora.rate ? { ...lora, key: keyOf(layer.path) } : lora,
    )
  );
}
