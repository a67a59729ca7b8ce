/**
 * The embedding: rows of a table picked by ids.
 *
 * Letters: V vocabulary, C channels, R rank.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  DTypeError,
  format,
  scope,
  ShapeError,
  type Tensor,
  where,
} from "../core/mod.ts";
import { adapted } from "./adapter.ts";
import { type Adapters, inForce, type Lora } from "./adapter_forms.ts";
import { widened } from "./quantized.ts";
import { pickByRow } from "./stacked.ts";

/** A table of vectors. */
export type Embedding<A extends Adapters = Lora> = {
  /** [V, C]. */
  readonly weight: Tensor;
  /** Adapter of the table: a is [R, V], b is [C, R]; none when absent. */
  readonly lora?: A;
  /** Vectors of virtual tokens, whose ids follow those of the table: [P, C]; none when absent. */
  readonly prefix?: Tensor | null;
};

/**
 * Rows of the table: ids i32 [...] to [..., C], plus `scale · aᵀ[ids] bᵀ` where the node has an adapter.
 *
 * Ids from V on are those of the virtual tokens of a prefix, where the node has one (see `prefixTokens` of cotan/lora).
 * An id outside 0..V-1 cannot be seen from the host; it is taken as the nearest inside.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { embedding } from "cotan/nn";
 *
 * const table = { weight: tensor([[1, 2], [3, 4]]) };
 * const ids = tensor(Int32Array.of(1, 0, 1));
 * assertEquals(await embedding(table, ids).toArray(), [[3, 4], [1, 2], [3, 4]]);
 * ```
 */
export function embedding(p: Embedding<Adapters>, ids: Tensor): Tensor {
  const { weight } = inForce(p);
  if (weight.shape.length !== 2) {
    throw new ShapeError(
      `Cannot embed by ${format(weight)}: a table has two axes`,
    );
  }
  if (ids.dtype !== "i32") {
    throw new DTypeError(
      `Cannot embed ${format(ids)}: ids are i32; use cast`,
    );
  }
  return scope(() => {
    const rows = adapted(widened(weight.take(ids)), p.lora, {
      project: ({ a, rows }) =>
        rows ? pickByRow(ids, a, rows) : a.transpose().take(ids),
      weight: () => widened(weight).transpose(),
    });
    if (!p.prefix) return rows;
    const place = ids.sub(weight.shape[0]!);
    return where(place.ge(0).unsqueeze(-1), p.prefix.take(place), rows);
  });
}
