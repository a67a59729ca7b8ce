/**
 * Adapters dropped, scaled, and chosen by name.
 *
 * All give a new tree that shares its tensors with the old one, so that choosing costs nothing, and two adapters of the
 * same shapes run the same compiled programs.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { scope, type TensorLike, type Tree, TreeError } from "../core/mod.ts";
import type { Adapter, Adapters } from "../nn/adapter_forms.ts";
import type { Node } from "./layers.ts";
import {
  adaptedLayers,
  bare,
  byName,
  carrying,
  mapAdapted,
  mapLoras,
} from "./loras.ts";

/**
 * The model without its adapters: the base. With names, without those alone.
 *
 * Throws `TreeError` where there is no adapter, or none of a name.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, zeros } from "cotan";
 * import { dropAdapters, lora } from "cotan/lora";
 *
 * const params = { weight: zeros([6, 4]), bias: null };
 * const key = random.key(0);
 * const tuned = lora({ head: params }, { targets: "head", rank: 2, alpha: 4, key });
 * assertEquals(dropAdapters(tuned), { head: params });
 * ```
 */
export function dropAdapters<T extends Tree>(
  tuned: T,
  names?: string | readonly string[],
): T {
  const what = "drop adapters";
  if (names === undefined) {
    return mapAdapted(tuned, what, ({ node }) => bare(node));
  }
  const dropped = [names].flat();
  checkNames(tuned, what, dropped);
  return mapAdapted(
    tuned,
    what,
    ({ node, lora }) =>
      keep(node, byName(lora).filter(([name]) => !dropped.includes(name!))),
  );
}

/**
 * The model with its adapters, or those of some names, counting `factor` times as much: 0 gives what the base computes, 1
 * what it did. The factor may be traced. Copies of weights and biases stay as they are.
 *
 * Throws `TreeError` where there is no adapter, or none of a name.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { scaleAdapters } from "cotan/lora";
 *
 * const tuned = {
 *   weight: tensor([[1, 2]]),
 *   lora: { a: tensor([[1, 1]]), b: tensor([[3]]), scale: tensor(2) },
 * };
 * assertEquals(await scaleAdapters(tuned, 0.5).lora.scale.item(), 1);
 * ```
 */
export function scaleAdapters<T extends Tree>(
  tuned: T,
  factor: TensorLike,
  names?: string | readonly string[],
): T {
  const what = "scale adapters";
  const scaled = names === undefined ? undefined : [names].flat();
  if (scaled) checkNames(tuned, what, scaled);
  return mapLoras(tuned, what, (lora, path) => {
    if (!lora.magnitude) return { ...lora, scale: lora.scale.mul(factor) };
    throw new TreeError(
      `Cannot ${what}: the one at ${path} is of DoRA, whose magnitudes count whatever its scale`,
    );
  }, scaled);
}

/** Names of the adapters in a tree. */
export function adapterNames(tuned: Tree): string[] {
  const names = adaptedLayers(tuned, "name adapters")
    .flatMap(({ lora }) => byName(lora).map(([name]) => name));
  return [...new Set(names)].filter((name) => name !== null);
}

/**
 * The model with the adapters of these names alone, which add up: a name, several, none, or a record of names and how much
 * each counts. The one of a single name stands without it, so that whichever is chosen, the tree has the same structure
 * where shapes are the same, and what was compiled for one serves the others.
 *
 * Throws `TreeError` where there is no adapter of a name, and where one has no name.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random, zeros } from "cotan";
 * import { activate, adapterNames, lora } from "cotan/lora";
 *
 * const base = { q: { weight: zeros([6, 4]) } };
 * const options = { targets: "q", rank: 2, alpha: 4, key: random.key(0) };
 * const one = lora(base, { ...options, name: "tales" });
 * const both = lora(one, { ...options, name: "poems" });
 * assertEquals(adapterNames(both), ["tales", "poems"]);
 * assertEquals(activate(both, "poems"), lora(base, options));
 * ```
 */
export function activate<T extends Tree>(
  tuned: T,
  names: string | readonly string[] | Readonly<Record<string, TensorLike>>,
): T {
  const what = "activate adapters";
  const weights = typeof names === "object" && !Array.isArray(names)
    ? names as Readonly<Record<string, TensorLike>>
    : {};
  const chosen = typeof names === "string"
    ? [names]
    : Array.isArray(names)
    ? names as readonly string[]
    : Object.keys(names);
  checkNames(tuned, what, chosen);
  const picked = mapAdapted(tuned, what, ({ node, lora }) => {
    const own = new Map(byName(lora));
    const kept = chosen.flatMap((name): [string, Adapter][] => {
      const adapter = own.get(name);
      return adapter ? [[name, adapter]] : [];
    });
    return chosen.length === 1 && kept.length === 1
      ? carrying(node, kept[0]![1])
      : keep(node, kept);
  });
  return scope(() =>
    Object.entries(weights).reduce(
      (tree, [name, weight]) =>
        scaleAdapters(tree, weight, chosen.length === 1 ? undefined : name),
      picked,
    )
  );
}

function keep(
  node: Node,
  adapters: readonly (readonly [string | null, Adapter])[],
): Node {
  return adapters.length === 0
    ? bare(node)
    : carrying(node, Object.fromEntries(adapters) as Adapters);
}

/** Throws where an adapter has no name, or a name is that of none. */
export function checkNames(
  tuned: Tree,
  what: string,
  names: readonly string[],
): void {
  const layers = adaptedLayers(tuned, what);
  const nameless = layers.find(({ lora }) => byName(lora)[0]?.[0] === null);
  if (nameless) {
    throw new TreeError(
      `Cannot ${what} by name: the one at ${nameless.path} has none; make it by lora with a name`,
    );
  }
  const known = adapterNames(tuned);
  const unknown = names.find((name) => !known.includes(name));
  if (unknown === undefined) return;
  throw new TreeError(
    `Cannot ${what} by the name "${unknown}": there are ${known.join(", ")}`,
  );
}
