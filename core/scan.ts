/**
 * Loops: a step applied again and again, traced once, and its gradient, which is a loop as well.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { isFloat } from "./dtype.ts";
import { DTypeError, ShapeError, TreeError } from "./errors.ts";
import { close, inside } from "./call.ts";
import { backward } from "./grad.ts";
import { splice, toposort } from "./graph.ts";
import type { Node, Pullback, ScanParams } from "./node.ts";
import { bind, fill, input, part } from "./ops.ts";
import { describe, format, sameShape, type Shape, type Type } from "./shape.ts";
import {
  checkSynchronous,
  evaluate,
  nodeOf,
  results,
  traced,
} from "./trace.ts";
import * as tree from "./tree.ts";

/** What `f` is called in errors. */
const STEP = "a step";

/** How a loop runs. */
export interface ScanOptions {
  /** From the last step to the first. */
  readonly reverse?: boolean;
  /** Number of steps; needed where xs has no tensors. */
  readonly length?: number;
}

/** What a loop, or one step of it, gives. */
export interface Scanned<C, Y> {
  /** What goes on to the next step. */
  readonly carry: C;
  /** What is kept of each step, stacked. */
  readonly y: Y;
}

/**
 * Calls `f` for each step with the carry and the slices of `xs` along their first axis, all of one length. Gives the last
 * carry, and what `f` gives as `y` stacked along a new first axis.
 *
 * `f` is traced once, so the program is as small for a thousand steps as for one. The gradient keeps the carries and
 * computes each step again.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { grad, scan, type Tensor, tensor } from "cotan";
 *
 * const step = (sum: Tensor, x: Tensor) => ({ carry: sum.add(x), y: sum.mul(x) });
 * const { carry, ys } = scan(step, tensor(0), tensor([1, 2, 3]));
 * assertEquals(await carry.item(), 6);
 * assertEquals(await ys.toArray(), [0, 2, 9]);
 *
 * const power = (x: Tensor) => scan((y: Tensor) => ({ carry: y.mul(x), y: null }), x, null, { length: 2 }).carry;
 * assertEquals(await grad(power)(tensor(2)).item(), 12);
 * ```
 */
export function scan<
  C extends tree.Tree,
  X extends tree.Tree,
  Y extends tree.Tree,
>(
  f: (carry: C, x: X) => Scanned<C, Y>,
  carry: C,
  xs: X,
  options: ScanOptions = {},
): { readonly carry: C; readonly ys: Y } {
  return evaluate(() => {
    const { reverse = false } = options;
    const length = lengthOf(xs, options.length);
    const init = tree.leaves(carry).map(({ leaf }) => nodeOf(leaf));
    const over = tree.leaves(xs).map(({ leaf }) => nodeOf(leaf));
    let y: Y | undefined;
    const loop = bindScan(
      init,
      over,
      { length, reverse, axis: 0 },
      (inner, slices) =>
        inside(() => {
          const next = f(
            tree.fromLeaves(carry, inner.map(traced)),
            tree.fromLeaves(xs, slices.map(traced)),
          );
          checkSynchronous(next, STEP);
          if (!(next && "carry" in next)) {
            throw new TreeError(
              `Cannot scan with ${STEP} that returns ${
                describe(next)
              }: it must return { carry, y }`,
            );
          }
          y = next.y;
          return {
            carry: nodesLike(next.carry, carry),
            ys: results(y, STEP).map(nodeOf),
          };
        }),
    );
    return {
      carry: tree.fromLeaves(carry, loop.carry.map(traced)),
      ys: tree.fromLeaves(y as Y, loop.ys.map(traced)),
    };
  });
}

/** The number of steps. */
function lengthOf(xs: tree.Tree, given: number | undefined): number {
  const leaves = tree.leaves(xs);
  const length = given ?? leaves[0]?.leaf.shape[0];
  for (const { path, leaf } of leaves) {
    if (leaf.shape[0] === length && length !== undefined) continue;
    const at = path && ` at ${path}`;
    throw new ShapeError(
      leaf.shape.length === 0
        ? `Cannot scan over ${format(leaf)}${at}: it has no axis of steps`
        : `Cannot scan ${length} steps over ${format(leaf)}${at}: it has ${
          leaf.shape[0]
        }`,
    );
  }
  if (length !== undefined && Number.isInteger(length) && length >= 0) {
    return length;
  }
  throw new ShapeError(
    length === undefined
      ? "Cannot scan over no tensor: give the number of steps as length"
      : `Cannot scan ${length} steps: the number must be an integer from 0`,
  );
}

/** The nodes of the next carry, which must have the leaves of the carry and their types. */
function nodesLike(next: tree.Tree, carry: tree.Tree): Node[] {
  const found = new Map(
    tree.leavesIn(next, `in what ${STEP} returns`)
      .map(({ path, leaf }) => [path, leaf]),
  );
  const nodes = tree.leaves(carry).map(({ path, leaf }) => {
    const result = found.get(path);
    found.delete(path);
    const what = `Cannot scan with carry ${format(leaf)}${
      path && ` at ${path}`
    }`;
    if (!result) throw new TreeError(`${what}: the step gives none there`);
    const isSame = result.dtype === leaf.dtype;
    if (isSame && sameShape(result.shape, leaf.shape)) return nodeOf(result);
    const ErrorOf = isSame ? ShapeError : DTypeError;
    throw new ErrorOf(`${what}: the step gives ${format(result)}`);
  });
  const [extra] = found;
  if (!extra) return nodes;
  throw new TreeError(
    `Cannot scan with no carry at ${extra[0] || "the top"}: the step gives ${
      format(extra[1])
    } there`,
  );
}

/** One step, or all of them, as nodes. */
interface Nodes {
  readonly carry: Node[];
  readonly ys: Node[];
}

/** A loop: traces the step on inputs that stand for its operands, and applies it. */
function bindScan(
  init: readonly Node[],
  xs: readonly Node[],
  how: Pick<ScanParams, "length" | "axis" | "reverse">,
  step: (carry: Node[], slices: Node[]) => Nodes,
): Nodes {
  const carries = init.map(input);
  const slices = xs.map(({ shape, dtype }) =>
    input({ shape: shape.toSpliced(how.axis, 1), dtype })
  );
  const { carry, ys } = step(carries, slices);
  const used = new Set(toposort([...carry, ...ys], carries));
  const kept = xs.flatMap((_, i) => used.has(slices[i]!) ? [i] : []);
  const { body, constants } = close(
    [...carries, ...kept.map((i) => slices[i]!)],
    [...carry, ...ys],
  );
  const operands = [...init, ...kept.map((i) => xs[i]!), ...constants];
  const tuple = bind("scan", operands, {
    ...how,
    body,
    pullback: pullBack,
    carries: init.length,
    xs: kept.length,
  });
  return {
    carry: carry.map((type, i) => part(tuple, i, type)),
    ys: ys.map((type, i) => part(tuple, init.length + i, stacked(type, how))),
  };
}

/** The type of a value of each step, stacked. */
export function stacked(
  { shape, dtype }: Type,
  { axis, length }: Pick<ScanParams, "axis" | "length">,
): Type {
  return { shape: shape.toSpliced(axis, 0, length) as Shape, dtype };
}

/**
 * The gradient of a loop, a loop in the other direction: a step is computed again from its carry and differentiated. The
 * cotangents of the carries go on from step to step, those of constants are summed up on the way.
 */
export const pullBack: Pullback = (cts, out, needed) => {
  const params = out.params as ScanParams;
  const { body, carries, xs, length, axis } = params;
  const stacks = body.outputs.length;
  const kinds = body.inputs.map((type, i) => {
    if (!isFloat(type.dtype)) return null;
    if (i < carries) return "carry";
    return !needed[i] ? null : i < carries + xs ? "x" : "constant";
  });
  const indices = (kind: string): number[] =>
    kinds.flatMap((k, i) => k === kind ? [i] : []);
  const carried = indices("carry"), sliced = indices("x");
  const summed = indices("constant");
  const wrt = [...carried, ...sliced, ...summed];
  // Cotangents of what is stacked: ys, and carries where a gradient is differentiated again.
  const given = cts.flatMap((ct, i) => ct && i >= carries ? [i] : []);
  const befores = body.inputs.slice(0, carries).map((type, i) =>
    part(out, stacks + i, stacked(type, params))
  );
  const zero = (i: number): Node => fill(body.inputs[i]!, 0);
  const results = bindScan(
    [...carried.map((i) => cts[i] ?? zero(i)), ...summed.map(zero)],
    [
      ...befores,
      ...out.inputs.slice(carries, carries + xs),
      ...given.map((i) => cts[i]!),
    ],
    { length, axis, reverse: !params.reverse },
    (sums, slices) => {
      const at = [
        ...slices.slice(0, carries + xs),
        ...out.inputs.slice(carries + xs),
      ];
      const outputs = splice(body, at);
      const ofStacked = slices.slice(carries + xs);
      const roots = [
        ...carried.map((i, j) => ({ node: outputs[i]!, ct: sums[j]! })),
        ...given.map((i, j) => ({
          node: i < stacks ? outputs[i]! : at[i - stacks]!,
          ct: ofStacked[j]!,
        })),
      ];
      const flowing = backward(
        roots.map(({ node }) => node),
        roots.map(({ ct }) => ct),
        wrt.map((i) => at[i]!),
      );
      const rest = flowing.splice(carried.length);
      const ys = rest.splice(0, sliced.length);
      const grown = rest.map((ct, j) =>
        bind("add", [sums[carried.length + j]!, ct], {})
      );
      return { carry: [...flowing, ...grown], ys };
    },
  );
  const flowing: (Node | null)[] = out.inputs.map(() => null);
  carried.forEach((i, j) => flowing[i] = results.carry[j]!);
  sliced.forEach((i, j) => flowing[i] = results.ys[j]!);
  summed.forEach((i, j) => flowing[i] = results.carry[carried.length + j]!);
  return flowing;
};
