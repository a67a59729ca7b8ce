/**
 * What low-rank adapters add to a layer's output.
 *
 * Letters: B batch, R rank; `in` and `out` are the features of the layer.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { concat, iota, type Tensor, where, zeros } from "../core/mod.ts";
import {
  type Adapters,
  adaptersIn,
  type Lora,
  partsOf,
} from "./adapter_forms.ts";
import { dropout } from "./dropout.ts";
import { renormed } from "./dora.ts";
import { changeByRow, projectByRow } from "./stacked.ts";

export type { Adapters, Lora, SlicedLora } from "./adapter_forms.ts";

/** What adapters ask of the layer that they are in. */
export interface Site {
  /** `x aᵀ` [..., R] of an adapter with such an `a`. */
  project(lora: Lora): Tensor;
  /** The layer's weight as [out, in]. */
  weight(): Tensor;
}

/** How the adapters of a linear layer see its input x [..., in]. */
export function projectFrom(x: Tensor): Site["project"] {
  return ({ a, rate, key, rows }) => {
    const kept = rate && key ? dropout(x, { rate, key }) : x;
    return rows ? projectByRow(kept, a, rows) : kept.matmul(a.transpose());
  };
}

/**
 * A layer's output [..., out], before its bias, with what its adapters add.
 *
 * Two thin products for each adapter; the dense product b a is never formed.
 */
export function adapted(
  y: Tensor,
  adapters: Adapters | null | undefined,
  site: Site,
): Tensor {
  if (!adapters) return y;
  return adaptersIn(adapters).map(partsOf).reduce((sum, parts) => {
    if (parts.length === 0) return sum;
    const shape = [...y.shape.slice(0, -1), y.shape.at(-1)! / parts.length];
    const changes = parts.map((lora, i) =>
      lora ? change(lora, partOf(y, site, i, parts.length)) : zeros(shape)
    );
    return sum.add(
      changes.length > 1 ? concat(changes, { axis: -1 }) : changes[0]!,
    );
  }, y);
}

/** A slice of a layer, or the whole one: its own output, and what an adapter of it asks. */
interface Part extends Site {
  output(): Tensor;
}

function partOf(y: Tensor, site: Site, i: number, count: number): Part {
  if (count === 1) return { ...site, output: () => y };
  const size = y.shape.at(-1)! / count;
  const range = [i * size, (i + 1) * size] as const;
  return {
    ...site,
    output: () => y.slice([...y.shape.slice(1).map(() => null), range]),
    weight: () => site.weight().slice([range]),
  };
}

/** What an adapter adds: two thin products, R · (in + out) multiplications a row. */
function change(lora: Lora, part: Part): Tensor {
  const { a, b, scale, rank, from, magnitude } = lora;
  if (a.shape.length === 3) return changeByRow(lora, () => part.project(lora));
  const ranks = iota([b.shape[1]!]);
  const learns = from && ranks.ge(from);
  const down = learns ? where(learns.unsqueeze(1), a, a.stopGradient()) : a;
  const up = learns ? where(learns, b, b.stopGradient()) : b;
  const u = part.project({ ...lora, a: down });
  const used = rank ? where(ranks.lt(rank), u, 0) : u;
  const added = used.matmul(up.transpose()).mul(scale);
  return magnitude
    ? renormed(added, lora, part.output(), part.weight())
    : added;
}
