/**
 * Functions with gradients of one's own.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { call, type Called } from "./call.ts";
import { DTypeError, TreeError } from "./errors.ts";
import type { Node, Pullback } from "./node.ts";
import { fill } from "./ops.ts";
import { describe, format, sameShape, type Type } from "./shape.ts";
import type { Tensor } from "./tensor.ts";
import { nodeOf, traced } from "./trace.ts";
import * as tree from "./tree.ts";

/** How a function is differentiated. */
export interface VjpRule<A extends readonly unknown[], R, S> {
  /** The function, and what its pullback needs to know. */
  readonly fwd: (...args: A) => { readonly out: R; readonly residuals: S };
  /** The cotangents of the arguments from that of the result; null for an argument, or a leaf, without one. */
  readonly bwd: (
    residuals: S,
    cotangent: R,
  ) => readonly (A[number] | null)[];
}

/**
 * The function `f` with a gradient that is not derived from it.
 *
 * What `f` closes over is constant to it. `bwd` must be differentiable for gradients of gradients, and linear in the
 * cotangent for `jvp`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { customVjp, grad, type Tensor, tensor } from "cotan";
 *
 * // The straight-through estimator: rounding whose gradient is that of the identity.
 * const round = customVjp((x: Tensor) => x.round(), {
 *   fwd: (x) => ({ out: x.round(), residuals: null }),
 *   bwd: (_, ct) => [ct],
 * });
 * const slope = grad((x: Tensor) => round(x).square().sum());
 * assertEquals(await slope(tensor([0.6, 2.2])).toArray(), [2, 4]);
 * ```
 */
export function customVjp<
  A extends readonly tree.Tree[] = Tensor[],
  R extends tree.Tree = Tensor,
  S extends tree.Tree = tree.Tree,
>(f: (...args: A) => R, rule: VjpRule<A, R, S>): (...args: A) => R {
  return (...args) => call(f, args, (called) => pullbackOf(called, rule));
}

/** The pullback of a call by a rule. */
export function pullbackOf<
  A extends readonly tree.Tree[],
  R extends tree.Tree,
  S extends tree.Tree,
>(
  { args, out, body }: Called<A, R>,
  { fwd, bwd }: VjpRule<A, R, S>,
): Pullback {
  const count = tree.leaves(args).length;
  return (cts, { inputs }) => {
    const operands = inputs.slice(0, count).map(traced);
    const made = fwd(...tree.fromLeaves(args, operands));
    if (!(made && "residuals" in made)) {
      throw new TreeError(
        `Cannot take ${
          describe(made)
        } from fwd: it must return { out, residuals }`,
      );
    }
    const given = body.outputs.map((type, i) =>
      traced(cts[i] ?? fill(type, 0))
    );
    const flowing = bwd(made.residuals, tree.fromLeaves(out, given));
    const cotangents = checked(flowing, args);
    return inputs.map((_, i) => cotangents[i] ?? null);
  };
}

/** The cotangent of each leaf of the arguments. */
function checked(
  flowing: readonly tree.Tree[],
  args: readonly tree.Tree[],
): (Node | null)[] {
  if (!Array.isArray(flowing)) {
    throw new TreeError(
      `Cannot take ${
        describe(flowing)
      } from bwd: it must return an array of cotangents`,
    );
  }
  if (flowing.length !== args.length) {
    throw new TreeError(
      `Cannot take ${flowing.length} cotangents from bwd: one for each of ${args.length} arguments is expected`,
    );
  }
  const found = new Map(
    tree.leaves(flowing).map(({ path, leaf }) => [path, leaf]),
  );
  const cotangents = tree.leaves(args).map(({ path, leaf }) => {
    const ct = found.get(path);
    found.delete(path);
    if (!ct) return null;
    if (isAlike(ct, leaf)) return nodeOf(ct);
    throw new DTypeError(
      `Cannot take ${
        format(ct)
      } from bwd as cotangent of argument ${path}: it must be ${format(leaf)}`,
    );
  });
  const [extra] = found.keys();
  if (extra === undefined) return cotangents;
  throw new TreeError(
    `Cannot take a cotangent from bwd at ${extra}: no argument has that leaf`,
  );
}

function isAlike(a: Type, b: Type): boolean {
  return a.dtype === b.dtype && sameShape(a.shape, b.shape);
}
