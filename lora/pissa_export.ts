/**
 * Adapters of PiSSA as ordinary ones of the original weights.
 *
 * Letters: R rank.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { concat, scope, type Tree, TreeError } from "../core/mod.ts";
import type { Lora } from "../nn/adapter_forms.ts";
import { layersOf, mapLayers } from "./layers.ts";
import { carrying, mapLoras } from "./loras.ts";

const WHAT = "take PiSSA apart";

/** What PiSSA started from. */
export interface PissaOrigin<T> {
  /** The model as `lora` made it. */
  readonly start: T;
  /** The parameters that it was made of. */
  readonly params: T;
}

/**
 * The parameters that PiSSA started from, with ordinary adapters of rank 2 R that make of them what the trained model is:
 * what was learned, less what the adapters were at the start. This is what can be saved for the original model.
 *
 * Throws `TreeError` where the trees do not belong together.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random } from "cotan";
 * import { fromPissa, lora, report } from "cotan/lora";
 *
 * const key = random.key(0);
 * const params = { q: { weight: random.normal(key, [6, 4]) } };
 * const start = lora(params, { targets: "q", rank: 2, alpha: 4, key, init: "pissa" });
 * const tuned = fromPissa(start, { start, params });
 * assertEquals((await report(tuned)).rows[0]!.rank, 4);
 * assertEquals(tuned.q.weight, params.q.weight);
 * ```
 */
export function fromPissa<T extends Tree>(
  trained: T,
  { start, params }: PissaOrigin<T>,
): T {
  const first = new Map<string, Lora>();
  mapLoras(start, WHAT, (lora, path) => {
    first.set(path, lora);
    return lora;
  });
  return scope(() => {
    const doubled = mapLoras(trained, WHAT, (lora, path): Lora => {
      const other = first.get(path);
      if (!other || other.a.shape.join() !== lora.a.shape.join()) {
        throw new TreeError(
          `Cannot ${WHAT}: the start has no such adapter at ${path}`,
        );
      }
      return {
        ...lora,
        a: concat([lora.a, other.a]),
        b: concat([lora.b, other.b.neg()], { axis: 1 }),
      };
    });
    const adapters = new Map(
      layersOf(doubled).map(({ path, node }) => [path, node.lora]),
    );
    return mapLayers(params, ({ path, node }) => {
      const adapter = adapters.get(path);
      return adapter ? carrying(node, adapter as Lora) : node;
    });
  });
}
