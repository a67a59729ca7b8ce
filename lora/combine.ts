/**
 * Several adapters made one.
 *
 * Letters: R rank; `in` and `out` are the features of a layer.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  concat,
  scope,
  type Tensor,
  tensor,
  type Tree,
  TreeError,
} from "../core/mod.ts";
import { type Lora, partsOf, type SlicedLora } from "../nn/adapter_forms.ts";
import { layersOf, mapLayers } from "./layers.ts";
import { adaptedLayers, adaptersOf, bare, byName, carrying } from "./loras.ts";
import { checkNames } from "./named.ts";
import { type Columns, type Svd, svdOfProduct } from "./svd.ts";

const WHAT = "combine adapters";

/** Which adapters become one, and how. */
export interface Combination {
  /** Their names; the adapter without a name alone when absent, which "svd" then cuts. */
  readonly names?: readonly string[];
  /** How much each of them counts; once when absent. */
  readonly weights?: readonly number[];
  /**
   * "cat" puts the factors side by side: ranks add up, and the sum is exact. "svd" cuts that sum to `rank`. Adding up the
   * factors themselves is neither, and not here.
   */
  readonly how: "cat" | "svd";
  /** Rank for "svd", cut to what a layer's sum has. */
  readonly rank?: number;
}

/** Adapters as one. */
export interface Combined<T> {
  /** The model with the one adapter, which has no name. */
  readonly tuned: T;
  /** ‖sum - adapter‖ / ‖sum‖ over all layers: what "svd" has cut off, 0 for "cat". */
  readonly residual: number;
}

/**
 * The model with one adapter that computes the weighted sum of several.
 *
 * Throws `TreeError` where there is no adapter of a name, and for adapters that are more than a, b and scale;
 * `RangeError` for a rank that is no positive integer, or weights that are not one for each.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, zeros } from "cotan";
 * import { combineAdapters, lora, report } from "cotan/lora";
 *
 * const options = { targets: "q", rank: 2, alpha: 4, key: random.key(0) };
 * const one = lora({ q: { weight: zeros([6, 4]) } }, { ...options, name: "tales" });
 * const both = lora(one, { ...options, name: "poems" });
 * const { tuned } = await combineAdapters(both, { names: ["tales", "poems"], how: "cat" });
 * assertEquals((await report(tuned)).rows[0]!.rank, 4);
 * ```
 */
export async function combineAdapters<T extends Tree>(
  tuned: T,
  options: Combination,
): Promise<Combined<T>> {
  const { how, rank } = options;
  const names: readonly (string | null)[] = options.names ?? [null];
  const { weights = names.map(() => 1) } = options;
  if (weights.length !== names.length) {
    throw new RangeError(
      `Cannot ${WHAT}: there are ${names.length} names and ${weights.length} weights`,
    );
  }
  if (how === "svd" && !(Number.isInteger(rank) && rank! > 0)) {
    throw new RangeError(
      `Cannot ${WHAT} at rank ${rank}: "svd" needs a positive integer`,
    );
  }
  if (options.names) checkNames(tuned, WHAT, options.names);
  else adaptedLayers(tuned, WHAT);
  const sums = scope(() =>
    Object.fromEntries(
      layersOf(tuned).map((layer) => {
        const own = new Map(byName(adaptersOf(layer, WHAT) ?? {}));
        const lists = names.map((name) => {
          const adapter = own.get(name);
          return adapter ? plainParts(partsOf(adapter), layer.path) : null;
        });
        return [layer.path, sumOf(lists, weights, layer.path)];
      }),
    )
  );
  if (how === "cat") return { tuned: carried(sums), residual: 0 };
  let cut = 0, all = 0;
  const smaller: Record<string, SlicedLora | null> = {};
  for (const [path, parts] of Object.entries(sums)) {
    smaller[path] = parts && await Promise.all(parts.map(async (lora) => {
      if (!lora) return null;
      const found = await svdOf(lora);
      found.s.forEach((s, i) => {
        all += s * s;
        if (i >= rank!) cut += s * s;
      });
      for (const factor of [lora.a, lora.b, lora.scale]) factor.dispose();
      return fromSvd(found, rank!);
    }));
  }
  const residual = all === 0 ? 0 : Math.sqrt(cut / all);
  return { tuned: carried(smaller), residual };

  function carried(all: Readonly<Record<string, SlicedLora | null>>): T {
    return mapLayers(tuned, ({ path, node }) => {
      const parts = all[path];
      if (!parts) return bare(node);
      return carrying(node, parts.length > 1 ? parts : parts[0]!);
    });
  }
}

function plainParts(parts: SlicedLora, path: string): SlicedLora {
  const isPlain = parts.length > 0 &&
    parts.every((lora) =>
      !lora || Object.keys(lora).sort().join() === "a,b,scale"
    );
  if (isPlain) return parts;
  throw new TreeError(
    `Cannot ${WHAT}: the one at ${path} is more than a, b and scale`,
  );
}

/** The weighted sum of adapters of a layer: null for one that is none of them, and where all are. */
function sumOf(
  lists: readonly (SlicedLora | null)[],
  weights: readonly number[],
  path: string,
): SlicedLora | null {
  const given = lists.flatMap((list, i) =>
    list ? [{ list, weight: weights[i]! }] : []
  );
  const [first] = given;
  if (!first) return null;
  if (given.some(({ list }) => list.length !== first.list.length)) {
    throw new TreeError(
      `Cannot ${WHAT}: those at ${path} are of different slices`,
    );
  }
  return first.list.map((_, i) => {
    const some = given.flatMap(({ list, weight }) => {
      const lora = list[i];
      return lora ? [{ ...lora, weight }] : [];
    });
    if (some.length === 0) return null;
    return {
      a: concat(some.map(({ a }) => a)),
      b: concat(
        some.map(({ b, scale, weight }) => b.mul(scale.mul(weight))),
        { axis: 1 },
      ),
      scale: tensor(1),
    };
  });
}

/** The decomposition of the change that an adapter of scale 1 makes. */
export async function svdOf({ a, b }: Lora): Promise<Svd> {
  const up = scope(() => b.transpose());
  const [left, right] = await Promise.all([columnsOf(up), columnsOf(a)]);
  up.dispose();
  return svdOfProduct(left, right);
}

/** The rows of a tensor, which are the columns of what it is the transpose of. */
export async function columnsOf(x: Tensor): Promise<Columns> {
  const data = await x.data(), size = x.shape[1]!;
  return Array.from(
    { length: x.shape[0]! },
    (_, i) => Float64Array.from(data.subarray(i * size, (i + 1) * size)),
  );
}

/** The adapter of the largest singular values, shared equally by its factors. */
function fromSvd({ u, s, v }: Svd, rank: number): Lora {
  const kept = s.slice(0, rank);
  const rows = (columns: Columns) =>
    tensor(
      Float64Array.from(
        kept.flatMap((value, i) =>
          [...columns[i]!].map((x) => x * Math.sqrt(value))
        ),
      ),
      { shape: [kept.length, columns[0]!.length] },
    );
  return {
    a: rows(v),
    b: scope(() => rows(u).transpose()),
    scale: tensor(1),
  };
}
