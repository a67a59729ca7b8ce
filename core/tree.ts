/**
 * Trees of tensors: plain records and arrays with tensors at the leaves and null for holes.
 *
 * A leaf's path is its keys joined by dots: `model.layers.0.self_attn.q_proj.weight`.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { TreeError } from "./errors.ts";
import { compileSelector, type Selector } from "./selector.ts";
import { describe } from "./shape.ts";
import { isRecord } from "./structure.ts";
import { Tensor } from "./tensor.ts";

export { type Selector } from "./selector.ts";

/** A tensor, a hole, or a plain array or record of trees. */
export type Tree =
  | Tensor
  | null
  | undefined
  | readonly Tree[]
  | { readonly [key: string]: Tree };

/** A tensor of a tree, and where it is. */
export interface Leaf {
  /** Dotted path. */
  readonly path: string;
  /** The tensor. */
  readonly leaf: Tensor;
}

/** Calls `visit` for each tensor and rebuilds the tree from what it returns. Holes stay. */
function rebuild(
  tree: unknown,
  path: string,
  visit: (leaf: Tensor, path: string) => unknown,
  place = "in a tree",
): unknown {
  if (tree instanceof Tensor) return visit(tree, path);
  if (tree === null || tree === undefined) return tree;
  if (Array.isArray(tree)) {
    return tree.map((child, i) =>
      rebuild(child, join(path, String(i)), visit, place)
    );
  }
  if (isRecord(tree)) {
    const out: Record<string, unknown> = {};
    for (const key of Object.keys(tree)) {
      out[key] = rebuild(tree[key], join(path, key), visit, place);
    }
    return out;
  }
  throw new TreeError(
    `Cannot use ${describe(tree)}${
      path && ` at ${path}`
    } ${place}: leaves are tensors, nodes are plain records and arrays, null is a hole`,
  );
}

function join(path: string, key: string): string {
  return path === "" ? key : `${path}.${key}`;
}

/** The tensor or subtree at a dotted path, or undefined. */
export function at(tree: Tree, path: string): Tree | undefined {
  if (path === "") return tree;
  let node: unknown = tree;
  for (const key of path.split(".")) {
    if (typeof node !== "object" || node === null) return undefined;
    node = (node as Record<string, unknown>)[key];
  }
  return node as Tree | undefined;
}

/**
 * Tensors of a tree with their paths, in order.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tree, zeros } from "cotan";
 *
 * const leaves = tree.leaves({ a: [zeros([2])], b: null });
 * assertEquals(leaves.map(({ path }) => path), ["a.0"]);
 * ```
 */
export function leaves(tree: Tree): Leaf[] {
  return leavesIn(tree, "in a tree");
}

/** The same of what may be no tree; the error says that it stands in such a `place`. */
export function leavesIn(tree: unknown, place: string): Leaf[] {
  const found: Leaf[] = [];
  rebuild(tree, "", (leaf, path) => found.push({ path, leaf }), place);
  return found;
}

/**
 * The same tree with other tensors at its leaves, in the order of `leaves`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { ones, tree, zeros } from "cotan";
 *
 * const one = ones([2]);
 * assertEquals(tree.fromLeaves({ a: zeros([2]) }, [one]), { a: one });
 * ```
 */
export function fromLeaves<T extends Tree>(
  tree: T,
  list: readonly Tensor[],
): T {
  let next = 0;
  const out = rebuild(tree, "", () => list[next++]);
  if (next !== list.length) {
    throw new TreeError(
      `Cannot fill a tree of ${next} leaves from ${list.length} tensors`,
    );
  }
  return out as T;
}

/**
 * Applies `f` to each tensor, together with the tensors at the same paths of other trees.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { ones, tree } from "cotan";
 *
 * const t = { a: ones([2]), b: [ones([3])] };
 * const sum = tree.map((x, y) => x.add(y!), t, t);
 * assertEquals([...await sum.b[0]!.data()], [2, 2, 2]);
 * ```
 */
export function map<T extends Tree>(
  f: (leaf: Tensor, ...rest: Tensor[]) => Tensor,
  tree: T,
  ...rest: readonly Tree[]
): T {
  const others = rest.map((other) =>
    new Map(leaves(other).map(({ path, leaf }) => [path, leaf]))
  );
  let count = 0;
  const out = rebuild(tree, "", (leaf, path) => {
    count++;
    return f(
      leaf,
      ...others.map((other) => {
        const match = other.get(path);
        if (match) return match;
        throw new TreeError(`Cannot map over trees: one has no leaf ${path}`);
      }),
    );
  });
  for (const other of others) {
    if (other.size !== count) {
      const known = new Set(leaves(tree).map(({ path }) => path));
      const extra = [...other.keys()].find((path) => !known.has(path));
      throw new TreeError(
        `Cannot map over trees: the first has no leaf ${extra}`,
      );
    }
  }
  return out as T;
}

/** Number of elements in all tensors of a tree. */
export function count(tree: Tree): number {
  return leaves(tree).reduce(
    (sum, { leaf }) => sum + leaf.shape.reduce((size, d) => size * d, 1),
    0,
  );
}

/**
 * Splits a tree in two of the same structure: the leaves that a selector takes, and the rest, with null for the others.
 *
 * Both halves keep the type of the whole, so that paths into them stay typed. Throws `TreeError` where a pattern
 * matches nothing.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tree, zeros } from "cotan";
 *
 * const params = { weight: zeros([2, 2]), bias: zeros([2]) };
 * const [bias, rest] = tree.partition(params, "bias");
 * assertEquals(tree.leaves(bias).map(({ path }) => path), ["bias"]);
 * assertEquals(tree.merge(bias, rest), params);
 * ```
 */
export function partition<T extends Tree>(
  tree: T,
  selector: Selector,
): [selected: T, rest: T] {
  const all = leaves(tree);
  const selects = compileSelector(selector, all.map(({ path }) => path));
  const selected = rebuild(
    tree,
    "",
    (leaf, path) => selects(path, leaf) ? leaf : null,
  );
  const rest = rebuild(
    tree,
    "",
    (leaf, path) => selects(path, leaf) ? null : leaf,
  );
  return [selected as T, rest as T];
}

/** Fills the holes of one tree from another of the same structure. */
export function merge<T extends Tree>(selected: T, rest: T): T {
  return mergeAt(selected, rest, "") as T;
}

function mergeAt(a: unknown, b: unknown, path: string): unknown {
  if (a === null || a === undefined) return b;
  if (b === null || b === undefined) return a;
  if (a instanceof Tensor || b instanceof Tensor) {
    throw new TreeError(`Cannot merge: both trees have something at ${path}`);
  }
  if (Array.isArray(a) && Array.isArray(b)) {
    const length = Math.max(a.length, b.length);
    return Array.from(
      { length },
      (_, i) => mergeAt(a[i], b[i], join(path, String(i))),
    );
  }
  if (isRecord(a) && isRecord(b)) {
    const out: Record<string, unknown> = {};
    for (const key of Object.keys({ ...a, ...b })) {
      out[key] = mergeAt(a[key], b[key], join(path, key));
    }
    return out;
  }
  throw new TreeError(
    `Cannot merge: the trees differ in structure at ${path || "the top"}`,
  );
}
