/**
 * Matrix products.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { DTypeError, ShapeError } from "../errors.ts";
import { broadcastShapes, format, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { apply, evaluate } from "../trace.ts";
import { mul } from "./elementwise.ts";
import { expand, reshape } from "./movement.ts";

/**
 * Matrix product by NumPy's rules: leading axes broadcast, a vector is a row on the left and a column on the right.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { matmul, tensor } from "cotan";
 *
 * const x = tensor([[1, 2], [3, 4]]);
 * assertEquals(await matmul(x, tensor([1, 1])).toArray(), [3, 7]);
 * ```
 */
export function matmul(a: Tensor, b: Tensor): Tensor {
  if (a.dtype !== "f32" || b.dtype !== "f32") {
    throw new DTypeError(
      `Cannot matmul ${format(a)} by ${format(b)}: both must be f32; use cast`,
    );
  }
  if (a.shape.length === 0 || b.shape.length === 0) {
    throw new ShapeError(
      `Cannot matmul ${format(a)} by ${
        format(b)
      }: a scalar has no inner axis; use mul`,
    );
  }
  const k = a.shape.at(-1)!, k2 = b.shape.at(-2) ?? b.shape[0]!;
  if (k !== k2) {
    throw new ShapeError(
      `Cannot matmul ${format(a)} by ${
        format(b)
      }: inner sizes ${k} and ${k2} differ`,
    );
  }
  return evaluate(() => {
    if (a.shape.length === 1) {
      const out = matmul(reshape(a, [1, k]), b);
      const row = Math.max(0, b.shape.length - 2);
      return reshape(out, out.shape.filter((_, i) => i !== row));
    }
    if (b.shape.length === 1) {
      const out = matmul(a, reshape(b, [k, 1]));
      return reshape(out, out.shape.slice(0, -1));
    }
    const m = a.shape.at(-2)!, n = b.shape.at(-1)!;
    // One matrix on the right: the leading axes of a are rows, so that the gradient of b is one product too.
    if (b.shape.length === 2 && a.shape.length > 2) {
      const outer = a.shape.slice(0, -1);
      const rows = reshape(a, [sizeOf(outer), k]);
      return reshape(apply("matmul", [rows, b], {}), [...outer, n]);
    }
    const batch = broadcastShapes(a.shape.slice(0, -2), b.shape.slice(0, -2));
    if (!batch) {
      throw new ShapeError(
        `Cannot matmul ${format(a)} by ${
          format(b)
        }: the leading axes do not broadcast`,
      );
    }
    const full = [expand(a, [...batch, m, k]), expand(b, [...batch, k, n])];
    return apply("matmul", full, {});
  });
}

/** Inner product of two vectors of one size. */
export function dot(a: Tensor, b: Tensor): Tensor {
  if (a.shape.length !== 1 || b.shape.length !== 1) {
    throw new ShapeError(
      `Cannot dot ${format(a)} and ${
        format(b)
      }: both must be vectors; use matmul`,
    );
  }
  return matmul(a, b);
}

/** Products of each element of one vector with each of another: [m] and [n] give [m, n]. */
export function outer(a: Tensor, b: Tensor): Tensor {
  if (a.shape.length !== 1 || b.shape.length !== 1) {
    throw new ShapeError(
      `Cannot take the outer product of ${format(a)} and ${
        format(b)
      }: both must be vectors`,
    );
  }
  return evaluate(() => mul(reshape(a, [-1, 1]), b));
}
