/**
 * Loops over the examples of a batch: what `vmap` is compared with.
 *
 * @module
 */

import { stack, type Tensor, tree, zeros } from "cotan";
import type { Type } from "../../core/shape.ts";

/** Tensors of a type along a new axis; there may be none of them. */
export function stacked(
  list: readonly Tensor[],
  { shape, dtype }: Type,
  axis = 0,
): Tensor {
  return list.length > 0
    ? stack(list, { axis })
    : zeros(shape.toSpliced(axis, 0, 0), { dtype });
}

/** The n-th example along an axis. */
export function example(x: Tensor, axis: number, n: number): Tensor {
  const ranges = x.shape.map((_, i) => i === axis ? [n, n + 1] as const : null);
  return x.slice(ranges).squeeze(axis);
}

/** The function that calls `f` on one example after another; null stands for an argument that they share. */
export function loop<A extends readonly tree.Tree[], R extends tree.Tree>(
  f: (...args: A) => R,
  size: number,
  inAxes: readonly (number | null)[],
): (...args: A) => R {
  return (...args) => {
    const results = Array.from(
      { length: size },
      (_, n) =>
        f(...args.map((arg, i) => {
          const axis = inAxes[i]!;
          return axis === null
            ? arg
            : tree.map((x) => example(x, axis, n), arg);
        }) as unknown as A),
    );
    return tree.map((...list) => stack(list), results[0]!, ...results.slice(1));
  };
}
