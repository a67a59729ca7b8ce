/**
 * Pullbacks and forward mode: `vjp`, `jvp` and `hvp`.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { DTypeError, TreeError } from "./errors.ts";
import { backward, lossNode } from "./grad.ts";
import type { Node } from "./node.ts";
import { fill, input } from "./ops.ts";
import { format, sameShape } from "./shape.ts";
import type { Tensor } from "./tensor.ts";
import { apply, evaluate, nodeOf, results, traced } from "./trace.ts";
import * as tree from "./tree.ts";

/** What a function does to primals, as nodes: where it is linearized, and what it gives there. */
interface Linearized<R> {
  readonly out: R;
  readonly primals: readonly Node[];
  readonly outputs: readonly Node[];
}

/** Calls `f` on aliases of the primals, so that its uses of them are told from closed-over ones. */
export function linearize<A extends readonly tree.Tree[], R extends tree.Tree>(
  f: (...args: A) => R,
  primals: A,
): Linearized<R> {
  const aliases = tree.map((x) => apply("alias", [x], {}), primals);
  const out = f(...aliases);
  return {
    out,
    primals: tree.leaves(aliases).map(({ leaf }) => nodeOf(leaf)),
    outputs: results(out).map(nodeOf),
  };
}

/** Nodes of a tree that must have the types of others. */
function nodesLike(t: tree.Tree, like: readonly Node[], what: string): Node[] {
  const leaves = tree.leaves(t);
  if (leaves.length !== like.length) {
    throw new TreeError(
      `Cannot take a ${what} of ${leaves.length} leaves: ${like.length} are expected`,
    );
  }
  return leaves.map(({ path, leaf }, i) => {
    const expected = like[i]!;
    const fits = leaf.dtype === expected.dtype &&
      sameShape(leaf.shape, expected.shape);
    if (fits) return nodeOf(leaf);
    throw new DTypeError(
      `Cannot take ${format(leaf)} as ${what}${
        path && ` at ${path}`
      }: it must be ${format(expected)}`,
    );
  });
}

/**
 * The value of `f` at the primals, and its pullback: from a cotangent of the value to a tuple of those of the primals.
 *
 * Outside a transformation the pullback computes `f` again: under `jit` nothing is computed twice.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor, vjp } from "cotan";
 *
 * const { out, pullback } = vjp((x, y) => x.mul(y), tensor([1, 2]), tensor([3, 4]));
 * assertEquals(await out.toArray(), [3, 8]);
 * const [dx, dy] = pullback(tensor([1, 10]));
 * assertEquals(await dx!.toArray(), [3, 40]);
 * assertEquals(await dy!.toArray(), [1, 20]);
 * ```
 */
export function vjp<
  A extends readonly tree.Tree[] = Tensor[],
  R extends tree.Tree = Tensor,
>(
  f: (...args: A) => R,
  ...primals: A
): { readonly out: R; readonly pullback: (cotangent: R) => A } {
  const out = evaluate(() => f(...primals));
  const pullback = (cotangent: R): A =>
    evaluate(() => {
      const at = linearize(f, primals);
      const cts = nodesLike(cotangent, at.outputs, "cotangent");
      const flowing = backward(at.outputs, cts, at.primals).map(traced);
      return tree.fromLeaves(primals, flowing);
    });
  return { out, pullback };
}

/**
 * The value of `f` at the primals, and how it changes along the tangents.
 *
 * The pullback is linear in its cotangent, so transposing it once more gives forward mode without rules of its own.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { jvp, tensor } from "cotan";
 *
 * const { out, tangent } = jvp((x) => x.square(), [tensor(3)], [tensor(1)]);
 * assertEquals([await out.item(), await tangent.item()], [9, 6]);
 * ```
 */
export function jvp<
  A extends readonly tree.Tree[] = Tensor[],
  R extends tree.Tree = Tensor,
>(
  f: (...args: A) => R,
  primals: A,
  tangents: A,
): { readonly out: R; readonly tangent: R } {
  return evaluate(() => {
    const { out, ...at } = linearize(f, primals);
    const along = nodesLike(tangents, at.primals, "tangent");
    const dummies = at.outputs.map(input);
    const pulled = backward(at.outputs, dummies, at.primals);
    const tangent = backward(pulled, along, dummies).map(traced);
    return { out, tangent: tree.fromLeaves(out, tangent) };
  });
}

/**
 * The Hessian of a scalar function times the tangents, without the Hessian: the change of the gradient along them.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { hvp, tensor } from "cotan";
 *
 * const [product] = hvp((x) => x.pow(3).sum(), [tensor([1, 2])], [tensor([1, 1])]);
 * assertEquals(await product!.toArray(), [6, 12]);
 * ```
 */
export function hvp<A extends readonly tree.Tree[] = Tensor[]>(
  f: (...args: A) => Tensor,
  primals: A,
  tangents: A,
): A {
  return evaluate(() => {
    const gradient = (...args: A): A => {
      const at = linearize(f, args);
      const out = lossNode(at.out);
      const flowing = backward([out], [fill(out, 1)], at.primals);
      return tree.fromLeaves(args, flowing.map(traced));
    };
    return jvp(gradient, primals, tangents).tangent;
  });
}
