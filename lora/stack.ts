/**
 * Many adapters of one model in one tree, of which each row of a batch has one of its own.
 *
 * Letters: B batch, R rank, N adapters; `in` and `out` are the features of a layer.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  DTypeError,
  format,
  pad,
  scope,
  ShapeError,
  stack,
  type Tensor,
  type Tree,
  tree as trees,
  TreeError,
  zeros,
} from "../core/mod.ts";
import { type Lora, partsOf, type SlicedLora } from "../nn/adapter_forms.ts";
import { type Layer, layersOf, mapLayers, type Node } from "./layers.ts";
import { adaptersOf, carrying, mapLoras } from "./loras.ts";

const WHAT = "stack adapters";

/**
 * One model from several that share their base: each adapter is a [N, R, in], b [N, out, R] and scale [N] of theirs, in
 * order, filled up with zeros to the largest rank; a model without an adapter in a layer has zeros there. `withRows` says
 * which of them serves each row.
 *
 * Throws `TreeError` where the models differ in their base, and for adapters that are more than a, b and scale.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { ones, random, tensor, zeros } from "cotan";
 * import { lora, stackAdapters, withRows } from "cotan/lora";
 * import { linear } from "cotan/nn";
 *
 * const base = { q: { weight: ones([6, 4]) } };
 * const options = { targets: "q", rank: 2, alpha: 4 };
 * const trees = [1, 2, 3].map((seed) => lora(base, { ...options, key: random.key(seed) }));
 * const tuned = withRows(stackAdapters(trees), tensor([2, 0], { dtype: "i32" }));
 * assertEquals(linear(tuned.q, ones([2, 5, 4])).shape, [2, 5, 6]);
 * ```
 */
export function stackAdapters<T extends Tree>(models: readonly T[]): T {
  const [first] = models;
  if (first === undefined) {
    throw new TreeError(`Cannot ${WHAT}: there are no models`);
  }
  const all = models.map((model) =>
    new Map(layersOf(model).map((layer) => [layer.path, layer]))
  );
  return scope(() =>
    mapLayers(first, ({ path, node, weight }): Node => {
      const layers = all.map((layers) => layers.get(path));
      const other = layers.findIndex((layer) =>
        !layer || !isSame(layer.weight, weight)
      );
      if (other !== -1) {
        throw new TreeError(
          `Cannot ${WHAT}: models 0 and ${other} differ in their base at ${path}; adapt the same parameters`,
        );
      }
      const parts = layers.map((layer) => partsAt(layer!));
      const some = parts.find((list) => list !== null);
      if (!some) return node;
      const stacked = some.map((_, i) =>
        stackOf(parts.map((list) => list?.[i] ?? null))
      );
      const isSliced = Array.isArray(node.lora) || some.length > 1;
      return carrying(node, isSliced ? stacked : stacked[0]!);
    })
  );

  function partsAt(layer: Layer): SlicedLora | null {
    const adapters = adaptersOf(layer, WHAT);
    if (!adapters) return null;
    const parts = partsOf(adapters);
    const isPlain = parts.every((lora) =>
      !lora || Object.keys(lora).sort().join() === "a,b,scale"
    );
    if (isPlain && parts.length > 0) return parts;
    throw new TreeError(
      `Cannot ${WHAT}: the one at ${layer.path} is more than a, b and scale`,
    );
  }
}

/** Whether two weights are the same tensors. */
function isSame(one: Tree, other: Tree): boolean {
  const [x, y] = [one, other].map(trees.leaves);
  return x!.every(({ leaf }, i) => leaf === y![i]?.leaf);
}

/** Adapters of one slice, null for none, as one. */
function stackOf(loras: readonly (Lora | null)[]): Lora | null {
  const some = loras.find((lora) => lora !== null);
  if (!some) return null;
  const rank = Math.max(...loras.map((lora) => lora?.a.shape[0] ?? 0));
  const [into, out] = [some.a.shape[1]!, some.b.shape[0]!];
  const fill = (x: Tensor | undefined, shape: readonly number[]) =>
    x
      ? pad(x, shape.map((size, axis) => [0, size - x.shape[axis]!]))
      : zeros(shape);
  return {
    a: stack(loras.map((lora) => fill(lora?.a, [rank, into]))),
    b: stack(loras.map((lora) => fill(lora?.b, [out, rank]))),
    scale: stack(loras.map((lora) => lora?.scale ?? zeros([]))),
  };
}

/**
 * The model of `stackAdapters` with the adapter of each row of a batch: i32 [B] of numbers from 0, which may be traced, so
 * that one compiled program serves any mixture of them.
 *
 * Throws `TreeError` where an adapter is no stack, `DTypeError` and `ShapeError` for other rows.
 *
 * @example
 * ```ts
 * import { assertThrows } from "@std/assert";
 * import { random, tensor, TreeError, zeros } from "cotan";
 * import { lora, withRows } from "cotan/lora";
 *
 * const base = { q: { weight: zeros([6, 4]) } };
 * const tuned = lora(base, { targets: "q", rank: 2, alpha: 4, key: random.key(1) });
 * assertThrows(() => withRows(tuned, tensor([0], { dtype: "i32" })), TreeError);
 * ```
 */
export function withRows<T extends Tree>(tuned: T, rows: Tensor): T {
  if (rows.dtype !== "i32") {
    throw new DTypeError(
      `Cannot serve rows by ${format(rows)}: they are i32; use cast`,
    );
  }
  if (rows.shape.length !== 1) {
    throw new ShapeError(
      `Cannot serve rows by ${format(rows)}: there is one number for each row`,
    );
  }
  return mapLoras(tuned, "serve rows", (lora, path) => {
    if (lora.a.shape.length === 3) return { ...lora, rows };
    throw new TreeError(
      `Cannot serve rows: the adapter at ${path} is no stack; use stackAdapters`,
    );
  });
}
