/**
 * Movement of one axis among several.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Tensor } from "../tensor.ts";
import type { Range } from "../tensor_methods.ts";
import { pad, slice, transpose } from "./movement.ts";

/** The tensor with one axis at another position, the others in their order. */
export function moveAxis(x: Tensor, from: number, to: number): Tensor {
  const order = x.shape.map((_, i) => i).filter((i) => i !== from);
  return transpose(x, order.toSpliced(to, 0, from));
}

/** A range of one axis. */
export function sliceAxis(x: Tensor, axis: number, range: Range): Tensor {
  return slice(x, x.shape.map((_, i) => i === axis ? range : null));
}

/** Margins of a value on one axis; `x` itself where there are none. For use while tracing. */
export function padAxis(
  x: Tensor,
  axis: number,
  margins: readonly [before: number, after: number],
  value = 0,
): Tensor {
  if (margins[0] + margins[1] === 0) return x;
  return pad(x, x.shape.map((_, i) => i === axis ? margins : [0, 0]), {
    value,
  });
}
