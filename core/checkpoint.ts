/**
 * Rematerialisation: what a function computes on the way is not kept for its gradient, but computed again.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { call } from "./call.ts";
import { isFloat } from "./dtype.ts";
import { backward } from "./grad.ts";
import { splice } from "./graph.ts";
import type { Graph, Pullback } from "./node.ts";
import { bind } from "./ops.ts";
import type { Tensor } from "./tensor.ts";
import type { Tree } from "./tree.ts";

/**
 * The function `f`, whose gradient computes again what `f` computes on the way instead of keeping it: less memory for
 * one more run of `f`. What `f` closes over is kept.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { checkpoint, grad, type Tensor, tensor } from "cotan";
 *
 * const block = checkpoint((x: Tensor) => x.mul(x).sin().square());
 * const slope = grad((x: Tensor) => block(block(x)).sum());
 * assertEquals(await slope(tensor([0])).toArray(), [0]);
 * ```
 */
export function checkpoint<
  A extends readonly Tree[] = Tensor[],
  R extends Tree = Tensor,
>(f: (...args: A) => R): (...args: A) => R {
  return (...args) => call(f, args, ({ body }) => recompute(body));
}

/** The pullback that runs a graph once more, as soon as its cotangents are there. */
export function recompute(body: Graph): Pullback {
  return (cts, { inputs }, needed) => {
    const given = cts.flatMap((ct, i) => ct ? [{ ct, i }] : []);
    // Not before: or else they would be one with what was computed first, and that kept until now.
    const operands = inputs.map((x) =>
      given.reduce((x, { ct }) => bind("after", [x, ct], {}), x)
    );
    const outputs = splice(body, operands);
    const wrt = operands.filter((x, i) => needed[i] && isFloat(x.dtype));
    const flowing = backward(
      given.map(({ i }) => outputs[i]!),
      given.map(({ ct }) => ct),
      wrt,
    );
    return operands.map((x) => flowing[wrt.indexOf(x)] ?? null);
  };
}
