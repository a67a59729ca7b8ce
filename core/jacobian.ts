/**
 * Whole matrices of derivatives: `jacobian` and `hessian`.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { DTypeError, TreeError } from "./errors.ts";
import { linearize } from "./forward.ts";
import { backward, expectGradient, grad } from "./grad.ts";
import { eye } from "./math/create.ts";
import { reshape } from "./math/movement.ts";
import { describe, format, sizeOf } from "./shape.ts";
import { Tensor } from "./tensor.ts";
import { evaluate, nodeOf, traced } from "./trace.ts";
import { vmap } from "./vmap.ts";

/**
 * The function that computes the derivative of each element of `f` by each element of its argument: a tensor of shape
 * `[...out.shape, ...x.shape]`.
 *
 * It is the pullback of all unit cotangents at once, so it costs about as much as that many gradients.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { jacobian, tensor } from "cotan";
 *
 * const J = jacobian((x) => x.square().mul(tensor([1, 10])))(tensor([3, 4]));
 * assertEquals(await J.toArray(), [[6, 0], [0, 80]]);
 * ```
 */
export function jacobian(f: (x: Tensor) => Tensor): (x: Tensor) => Tensor {
  return (x) =>
    evaluate(() => {
      if (!(x instanceof Tensor)) {
        throw new TreeError(
          `Cannot differentiate by ${describe(x)}: it must be one f32 tensor`,
        );
      }
      expectGradient({ path: "", leaf: x });
      const { out, outputs, primals } = linearize(f, [x]);
      if (!(out instanceof Tensor) || out.dtype !== "f32") {
        const found = out instanceof Tensor ? format(out) : "a tree";
        throw new DTypeError(
          `Cannot differentiate a function that returns ${found}: it must be one f32 tensor`,
        );
      }
      const size = sizeOf(out.shape);
      const rows = vmap((unit) => {
        const ct = nodeOf(reshape(unit, out.shape));
        return traced(backward(outputs, [ct], primals)[0]!);
      })(eye(size));
      return reshape(rows, [...out.shape, ...x.shape]);
    });
}

/**
 * The function that computes the second derivatives of a scalar function: a tensor of shape `[...x.shape, ...x.shape]`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { hessian, tensor } from "cotan";
 *
 * const H = hessian((x) => x.pow(3).sum())(tensor([1, 2]));
 * assertEquals(await H.toArray(), [[6, 0], [0, 12]]);
 * ```
 */
export function hessian(f: (x: Tensor) => Tensor): (x: Tensor) => Tensor {
  return jacobian(grad(f));
}
