/**
 * Trees: laws over random trees, and exact texts of the errors.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import fc from "fast-check";
import { init, scope, Tensor, tree, TreeError, zeros } from "cotan";
import type { Tree } from "cotan";
import { check } from "../support/runs.ts";

/** Trees of tensors of a few sizes, and holes. */
const trees: fc.Arbitrary<(tensors: readonly Tensor[]) => Tree> = fc.letrec<{
  tree: Shape;
  node: Shape;
}>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    fc.oneof(fc.nat(2), fc.constant(null)),
    tie("node"),
  ),
  node: fc.oneof(
    fc.array(tie("tree"), { maxLength: 3 }),
    fc.dictionary(
      fc.constantFrom("weight", "bias", "0", "layers", "a b"),
      tie("tree"),
      { maxKeys: 3 },
    ),
  ),
})).tree.map((shape) => (tensors) => fill(shape, tensors));

/** A tree with numbers of tensors at the leaves. */
type Shape = number | null | Shape[] | { [key: string]: Shape };

function fill(shape: Shape, tensors: readonly Tensor[]): Tree {
  if (shape === null) return null;
  if (typeof shape === "number") return tensors[shape]!;
  if (Array.isArray(shape)) return shape.map((s) => fill(s, tensors));
  return Object.fromEntries(
    Object.entries(shape).map(([key, s]) => [key, fill(s, tensors)]),
  );
}

/** Asserts a law of trees. */
async function law(holds: (t: Tree, seed: number) => void): Promise<void> {
  using _ = await init({ backend: "reference" });
  const tensors = [zeros([]), zeros([2]), zeros([3, 2])];
  await check(
    fc.property(trees, fc.nat(), (make, seed) => holds(make(tensors), seed)),
    100,
  );
}

/** Whether two trees have the same structure and the very same tensors. */
function same(a: unknown, b: unknown): boolean {
  if (a instanceof Tensor || a === null || typeof a !== "object") {
    return a === b;
  }
  if (
    b === null || typeof b !== "object" || Array.isArray(a) !== Array.isArray(b)
  ) return false;
  const keys = Object.keys(a);
  return keys.join() === Object.keys(b).join() &&
    keys.every((key) =>
      same(a[key as keyof typeof a], b[key as keyof typeof b])
    );
}

Deno.test("merging what partition gives is the tree itself, in either order", () =>
  law((t, seed) => {
    const [selected, rest] = tree.partition(
      t,
      (path) => (path.length * 7 + seed) % 3 === 0,
    );
    assert(same(tree.merge(selected, rest), t));
    assert(same(tree.merge(rest, selected), t));
  }));

Deno.test("partition puts every leaf on the side that the selector says", () =>
  law((t, seed) => {
    const takes = (path: string, leaf: Tensor): boolean =>
      (path.length + leaf.shape.length + seed) % 2 === 0;
    const [selected, rest] = tree.partition(t, takes);
    const all = tree.leaves(t);
    assertEquals(
      tree.leaves(selected),
      all.filter(({ path, leaf }) => takes(path, leaf)),
    );
    assertEquals(
      tree.leaves(rest),
      all.filter(({ path, leaf }) => !takes(path, leaf)),
    );
  }));

Deno.test("mapping by identity keeps a tree, and leaves come back from fromLeaves", () =>
  law((t) => {
    assert(same(tree.map((x) => x, t), t));
    assert(same(tree.fromLeaves(t, tree.leaves(t).map(({ leaf }) => leaf)), t));
  }));

Deno.test("mapping over several trees pairs the leaves of one path", () =>
  law((t) => {
    const count = tree.leaves(t).length;
    let calls = 0;
    tree.map(
      (x, y, z) => {
        calls++;
        assertStrictEquals(x, y);
        assertStrictEquals(x, z);
        return x;
      },
      t,
      t,
      t,
    );
    assertEquals(calls, count);
  }));

Deno.test("at gives the leaf of each path, and count sums their elements", () =>
  law((t) => {
    let elements = 0;
    for (const { path, leaf } of tree.leaves(t)) {
      assertStrictEquals(tree.at(t, path), leaf);
      elements += [1, 2, 6][leaf.shape.length]!;
    }
    assertEquals(tree.count(t), elements);
  }));

/** Asserts that each call throws a TreeError of an exact text. */
async function assertErrors(
  errors: readonly (readonly [() => unknown, string])[],
): Promise<void> {
  using _ = await init({ backend: "reference" });
  for (const [call, text] of errors) {
    const error = assertThrows(() => scope(call), TreeError);
    assertEquals(error.message, text);
  }
}

Deno.test("paths are dotted, in the order of the keys, without holes", async () => {
  using _ = await init({ backend: "reference" });
  const t = { b: [zeros([1]), null, { c: zeros([2]) }], a: zeros([3]) };
  const paths = tree.leaves(t).map(({ path }) => path);
  assertEquals(paths, ["b.0", "b.2.c", "a"]);
  assertEquals(tree.leaves(zeros([])).map(({ path }) => path), [""]);
  assertEquals(tree.at(t, "b.2.d"), undefined);
  assertEquals(tree.at(t, "b.1.c"), undefined);
});

Deno.test("what is no tree is named with its place", () => {
  const rule =
    "leaves are tensors, nodes are plain records and arrays, null is a hole";
  const leaves = (value: unknown) => () => tree.leaves(value as Tree);
  return assertErrors([
    [leaves(3), `Cannot use the number 3 in a tree: ${rule}`],
    [
      leaves({ a: [true] }),
      `Cannot use the boolean true at a.0 in a tree: ${rule}`,
    ],
    [leaves([new Map()]), `Cannot use a Map at 0 in a tree: ${rule}`],
    [
      leaves({ w: new Float32Array(2) }),
      `Cannot use a Float32Array at w in a tree: ${rule}`,
    ],
    [
      leaves({ w: new ArrayBuffer(2) }),
      `Cannot use an ArrayBuffer at w in a tree: ${rule}`,
    ],
  ]);
});

Deno.test("trees that do not fit are named with the path", () => {
  const x = () => zeros([]);
  return assertErrors([
    [
      () => tree.map((x) => x, { a: x(), b: x() }, { a: x() }),
      "Cannot map over trees: one has no leaf b",
    ],
    [
      () => tree.map((x) => x, { a: x() }, { a: x(), c: x() }),
      "Cannot map over trees: the first has no leaf c",
    ],
    [
      () => tree.fromLeaves({ a: x(), b: x() }, [x()]),
      "Cannot fill a tree of 2 leaves from 1 tensors",
    ],
    [
      () => tree.merge({ a: { b: x() } }, { a: { b: x() } }),
      "Cannot merge: both trees have something at a.b",
    ],
    [
      () => tree.merge<Tree>({ a: [x()] }, { a: { b: x() } }),
      "Cannot merge: the trees differ in structure at a",
    ],
    [
      () => tree.merge<Tree>([x()], { b: x() }),
      "Cannot merge: the trees differ in structure at the top",
    ],
  ]);
});
