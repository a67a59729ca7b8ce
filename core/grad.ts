/**
 * Reverse mode: gradients as a transformation from graph to graph.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { DTypeError, ShapeError, TreeError } from "./errors.ts";
import { toposort } from "./graph.ts";
import { isHalf } from "./half.ts";
import type { Call, Node, Op, Params } from "./node.ts";
import { bind, fill, ops } from "./ops.ts";
import { describe, format, sizeOf } from "./shape.ts";
import { Tensor } from "./tensor.ts";
import { apply, checkSynchronous, evaluate, nodeOf, traced } from "./trace.ts";
import * as tree from "./tree.ts";

/**
 * Cotangents of `wrt` given those of `outputs`; zeros where nothing flows.
 *
 * Only nodes between the two are differentiated: what does not depend on `wrt` is never visited.
 */
export function backward(
  outputs: readonly Node[],
  cotangents: readonly Node[],
  wrt: readonly Node[],
): Node[] {
  const order = toposort(outputs);
  const active = new Set<Node>(wrt);
  for (const node of order) {
    const { vjp, kind } = ops[node.op];
    const flows = vjp || kind === "tuple";
    if (flows && node.inputs.some((x) => active.has(x))) active.add(node);
  }
  const cts = new Map<Node, Node>();
  const plus = (sum: Node | null | undefined, ct: Node): Node =>
    sum ? bind("add", [sum, ct], {}) : ct;
  const accumulate = (node: Node, ct: Node): void => {
    cts.set(node, plus(cts.get(node), ct));
  };
  // A tuple has a cotangent for each part that one flows to.
  const tuples = new Map<Node, (Node | undefined)[]>();
  outputs.forEach((node, i) => accumulate(node, cotangents[i]!));
  const isWrt = new Set(wrt);
  for (const node of order.reverse()) {
    const ct = cts.get(node), parts = tuples.get(node);
    if (!ct && !parts || !active.has(node) || isWrt.has(node)) continue;
    if (node.op === "part") {
      const [tuple] = node.inputs;
      const { index } = node.params as Params["part"];
      const list = tuples.get(tuple!) ?? [];
      list[index] = plus(list[index], ct!);
      tuples.set(tuple!, list);
      cts.delete(node);
      continue;
    }
    const { vjp } = ops[node.op] as Op<unknown>;
    const flowing = parts
      ? (node.params as Call).pullback(
        parts,
        node,
        node.inputs.map((x) => active.has(x)),
      )
      : vjp!(ct!, node, [...node.inputs], node.params);
    flowing.forEach((g, i) => {
      const operand = node.inputs[i]!;
      if (g && active.has(operand)) accumulate(operand, g);
    });
    cts.delete(node);
  }
  return wrt.map((x) => cts.get(x) ?? fill(x, 0));
}

/** Checks that a tensor has a gradient. */
export function expectGradient({ path, leaf }: tree.Leaf): void {
  if (leaf.dtype === "f32") return;
  const fix = isHalf(leaf.dtype)
    ? "cast it before, or pass it as another argument"
    : "pass it as another argument";
  throw new DTypeError(
    `Cannot differentiate by ${format(leaf)}${
      path && ` at ${path}`
    }: only f32 has a gradient; ${fix}`,
  );
}

/** The node of a loss, which must be a scalar. */
export function lossNode(loss: unknown): Node {
  checkSynchronous(loss, "a loss");
  const isTensor = loss instanceof Tensor;
  if (isTensor && sizeOf(loss.shape) === 1 && loss.dtype === "f32") {
    return nodeOf(loss);
  }
  throw new ShapeError(
    `Cannot differentiate a function that returns ${
      isTensor ? format(loss) : describe(loss)
    }: the loss must be a scalar f32; reduce it with sum() or mean()`,
  );
}

/** A function of parameters and other arguments that returns a scalar loss. */
export type LossFunction<P extends tree.Tree, A extends readonly unknown[]> = (
  params: P,
  ...args: A
) => Tensor;

/** A loss and the gradients of the parameters. */
export interface ValueAndGrads<P> {
  /** The loss. */
  readonly value: Tensor;
  /** A tree like the parameters. */
  readonly grads: P;
}

/**
 * The function that computes the value of `f`, its auxiliary output, and the gradients of the first argument.
 *
 * `f` returns `{ loss, aux }`, the loss a scalar f32.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor, valueAndGradAux } from "cotan";
 *
 * const f = valueAndGradAux((x) => ({ loss: x.square().sum(), aux: x.mul(3) }));
 * const { value, aux, grads } = f(tensor([1, 2]));
 * assertEquals([...await grads.data()], [2, 4]);
 * assertEquals([await value.item(), ...await aux.data()], [5, 3, 6]);
 * ```
 */
export function valueAndGradAux<
  P extends tree.Tree = Tensor,
  A extends readonly unknown[] = Tensor[],
  X extends tree.Tree = tree.Tree,
>(
  f: (params: P, ...args: A) => { readonly loss: Tensor; readonly aux: X },
): (params: P, ...args: A) => ValueAndGrads<P> & { readonly aux: X } {
  return (params, ...args) =>
    evaluate(() => {
      const leaves = tree.leaves(params);
      if (leaves.length === 0) {
        throw new TreeError(
          "Cannot differentiate by a tree without tensors: the first argument holds none; see what is trainable",
        );
      }
      leaves.forEach(expectGradient);
      // An alias of each leaf, so that a closed-over use of the same tensor is a constant.
      const primals = leaves.map(({ leaf }) => apply("alias", [leaf], {}));
      const result = f(tree.fromLeaves(params, primals), ...args);
      checkSynchronous(result, "a loss");
      if (!(result && "loss" in result)) {
        throw new TreeError(
          `Cannot differentiate a function that returns ${
            describe(result)
          }: it must return { loss, aux }`,
        );
      }
      const { loss, aux } = result;
      const out = lossNode(loss);
      const grads = backward([out], [fill(out, 1)], primals.map(nodeOf));
      return {
        value: loss,
        aux,
        grads: tree.fromLeaves(params, grads.map(traced)),
      };
    });
}

/**
 * The function that computes the value of `f` and the gradients of its first argument.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { type Tensor, tensor, valueAndGrad } from "cotan";
 *
 * const f = (p: { x: Tensor }, y: Tensor) => p.x.mul(y).sum();
 * const { value, grads } = valueAndGrad(f)({ x: tensor([1, 2]) }, tensor([3, 4]));
 * assertEquals(await value.item(), 11);
 * assertEquals([...await grads.x.data()], [3, 4]);
 * ```
 */
export function valueAndGrad<
  P extends tree.Tree = Tensor,
  A extends readonly unknown[] = Tensor[],
>(f: LossFunction<P, A>): (params: P, ...args: A) => ValueAndGrads<P> {
  const both = valueAndGradAux((params: P, ...args: A) => ({
    loss: f(params, ...args),
    aux: null,
  }));
  return (params, ...args) => {
    const { value, grads } = both(params, ...args);
    return { value, grads };
  };
}

/**
 * The function that computes the gradients of the first argument of `f`, a tree like it.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { grad, tensor } from "cotan";
 *
 * const slope = grad((x) => x.pow(3).sum());
 * assertEquals(await slope(tensor(2)).item(), 12);
 * const curvature = grad((x) => slope(x));
 * assertEquals(await curvature(tensor(2)).item(), 12);
 * ```
 */
export function grad<
  P extends tree.Tree = Tensor,
  A extends readonly unknown[] = Tensor[],
>(
  f: LossFunction<P, A>,
): (params: P, ...args: A) => P {
  const both = valueAndGrad(f);
  return (params, ...args) => evaluate(() => both(params, ...args).grads);
}
