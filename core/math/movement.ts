/**
 * Movement: the same elements under another shape, order or range.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { ShapeError } from "../errors.ts";
import {
  broadcastShapes,
  checkShape,
  format,
  normalizeAxes,
  normalizeAxis,
  sameShape,
  type Shape,
  sizeOf,
} from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import type { AxisOptions, Range } from "../tensor_methods.ts";
import { apply, evaluate } from "../trace.ts";

/**
 * The same elements in another shape; one size may be -1, which is then what is left.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { arange, reshape } from "cotan";
 *
 * assertEquals(reshape(arange(6), [2, -1]).shape, [2, 3]);
 * ```
 */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const at = shape.indexOf(-1);
  let full = shape;
  if (at >= 0) {
    if (at !== shape.lastIndexOf(-1)) {
      throw new ShapeError(
        `Cannot reshape ${format(x)} to [${
          shape.join(", ")
        }]: only one size may be -1`,
      );
    }
    const rest = sizeOf(shape.filter((_, i) => i !== at));
    if (rest === 0) {
      throw new ShapeError(
        `Cannot reshape ${format(x)} to [${
          shape.join(", ")
        }]: beside a size of 0 any other would do for -1`,
      );
    }
    const size = sizeOf(x.shape) / rest;
    if (!Number.isInteger(size)) {
      throw new ShapeError(
        `Cannot reshape ${format(x)} to [${shape.join(", ")}]: ${
          sizeOf(x.shape)
        } elements do not divide by ${rest}`,
      );
    }
    full = shape.map((d, i) => i === at ? size : d);
  }
  checkShape(full, "reshape to");
  return apply("reshape", [x], { shape: full });
}

/** Axes in another order: axis i of the result is axis perm[i] of x; all reversed when absent. */
export function transpose(x: Tensor, perm?: Shape): Tensor {
  const order = perm
    ? perm.map((axis) => normalizeAxis(axis, x, "transpose"))
    : x.shape.map((_, i) => x.shape.length - 1 - i);
  if (
    order.length !== x.shape.length || new Set(order).size !== order.length
  ) {
    throw new ShapeError(
      `Cannot transpose ${format(x)} by [${
        perm!.join(", ")
      }]: it must name each axis once`,
    );
  }
  return apply("transpose", [x], { perm: order });
}

/** Broadcast to a shape by NumPy's rule. */
export function expand(x: Tensor, shape: Shape): Tensor {
  // A tensor of its own also where nothing repeats: whoever disposes of the result keeps x.
  if (sameShape(x.shape, shape)) return evaluate(() => x);
  const both = broadcastShapes(x.shape, shape);
  if (!both || !sameShape(both, shape)) {
    throw new ShapeError(
      `Cannot expand ${format(x)} to [${
        shape.join(", ")
      }]: only axes of size 1 and new leading axes expand`,
    );
  }
  const lead = shape.length - x.shape.length;
  return evaluate(() => {
    const full = lead === 0
      ? x
      : reshape(x, [...new Array<number>(lead).fill(1), ...x.shape]);
    return sameShape(full.shape, shape)
      ? full
      : apply("expand", [full], { shape });
  });
}

/** Without the named axes of size 1; without all of them when absent. */
export function squeeze(x: Tensor, axis?: number | readonly number[]): Tensor {
  const axes = axis === undefined
    ? x.shape.flatMap((d, i) => d === 1 ? [i] : [])
    : normalizeAxes(axis, x, "squeeze");
  for (const a of axes) {
    if (x.shape[a] !== 1) {
      throw new ShapeError(
        `Cannot squeeze ${format(x)}: axis ${a} has size ${x.shape[a]}`,
      );
    }
  }
  return reshape(x, x.shape.filter((_, i) => !axes.includes(i)));
}

/** With a new axis of size 1 at a position of the result. */
export function unsqueeze(x: Tensor, axis: number): Tensor {
  const shape = [...x.shape, 1];
  const at = normalizeAxis(axis, { shape, dtype: x.dtype }, "unsqueeze");
  return reshape(x, [...x.shape.slice(0, at), 1, ...x.shape.slice(at)]);
}

/** Axes reversed; all when absent. */
export function flip(x: Tensor, axes?: number | readonly number[]): Tensor {
  return apply("flip", [x], { axes: normalizeAxes(axes, x, "flip") });
}

/** Repeated as a whole along each axis, as numpy.tile. */
export function tile(x: Tensor, reps: Shape): Tensor {
  checkShape(reps, "tile by");
  return evaluate(() => {
    const rank = Math.max(x.shape.length, reps.length);
    const shape = fillFront(x.shape, rank);
    const times = fillFront(reps, rank);
    const pairs = reshape(x, shape.flatMap((d) => [1, d]));
    const repeated = expand(pairs, shape.flatMap((d, i) => [times[i]!, d]));
    return reshape(repeated, shape.map((d, i) => d * times[i]!));
  });
}

function fillFront(shape: Shape, rank: number): number[] {
  return [...new Array<number>(rank - shape.length).fill(1), ...shape];
}

/**
 * Ranges [start, stop, step] of the leading axes, counted from the back where negative, cut at the ends as in Python;
 * a step below 0 runs backwards, a null start or stop is the end of the axis, and null takes a whole axis.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { arange, slice } from "cotan";
 *
 * const x = arange(10);
 * assertEquals(await slice(x, [[1, -2, 3]]).toArray(), [1, 4, 7]);
 * assertEquals(await slice(x, [[null, 6, -1]]).toArray(), [9, 8, 7]);
 * ```
 */
export function slice(x: Tensor, ranges: readonly Range[]): Tensor {
  if (ranges.length > x.shape.length) {
    throw new ShapeError(
      `Cannot slice ${
        format(x)
      } by ${ranges.length} ranges: it has ${x.shape.length} axes`,
    );
  }
  const start: number[] = [], size: number[] = [], step: number[] = [];
  const reversed: number[] = [];
  x.shape.forEach((d, i) => {
    const [from, to, by = 1] = ranges[i] ?? [null, null];
    if (!Number.isInteger(by) || by === 0) {
      throw new ShapeError(
        `Cannot slice ${
          format(x)
        } with step ${by}: a step is an integer other than 0`,
      );
    }
    // The elements that a range may start at and, one further on, stop before.
    const [low, high] = by > 0 ? [0, d] : [-1, d - 1];
    const clamp = (v: number): number => {
      if (!Number.isInteger(v) && Math.abs(v) !== Infinity) {
        throw new ShapeError(
          `Cannot slice ${format(x)} at ${v}: a position is an integer`,
        );
      }
      return Math.min(Math.max(v < 0 ? v + d : v, low), high);
    };
    const first = from === null ? (by > 0 ? low : high) : clamp(from);
    const end = to === null ? (by > 0 ? high : low) : clamp(to);
    const count = Math.max(0, Math.ceil((end - first) / by));
    if (by < 0) reversed.push(i);
    start.push(count === 0 ? 0 : Math.min(first, first + (count - 1) * by));
    size.push(count);
    step.push(Math.abs(by));
  });
  return evaluate(() => {
    const out = apply("slice", [x], { start, size, step });
    return reversed.length > 0 ? flip(out, reversed) : out;
  });
}

/** With margins [before, after] of a value, 0 by default, on the leading axes. */
export function pad(
  x: Tensor,
  margins: readonly (readonly [before: number, after: number])[],
  options: { readonly value?: number } = {},
): Tensor {
  if (margins.length > x.shape.length) {
    throw new ShapeError(
      `Cannot pad ${
        format(x)
      } by ${margins.length} margins: it has ${x.shape.length} axes`,
    );
  }
  checkShape(margins.flat(), "pad by");
  return apply("pad", [x], {
    low: x.shape.map((_, i) => margins[i]?.[0] ?? 0),
    high: x.shape.map((_, i) => margins[i]?.[1] ?? 0),
    interior: x.shape.map(() => 0),
    value: options.value ?? 0,
  });
}

/** Tensors joined along an axis, 0 by default. */
export function concat(
  list: readonly Tensor[],
  options: AxisOptions = {},
): Tensor {
  const [first] = list;
  if (!first) {
    throw new ShapeError("Cannot concat no tensors: pass one at least");
  }
  const axis = normalizeAxis(options.axis ?? 0, first, "concat");
  return apply("concat", list, { axis });
}

/** Tensors of one shape joined along a new axis, 0 by default. */
export function stack(
  list: readonly Tensor[],
  options: AxisOptions = {},
): Tensor {
  const [first, ...rest] = list;
  if (!first) {
    throw new ShapeError("Cannot stack no tensors: pass one at least");
  }
  for (const x of rest) {
    if (sameShape(x.shape, first.shape)) continue;
    throw new ShapeError(
      `Cannot stack ${format(first)} and ${format(x)}: the shapes differ`,
    );
  }
  const axis = options.axis ?? 0;
  return evaluate(() => concat(list.map((x) => unsqueeze(x, axis)), { axis }));
}

/** Pieces of the given sizes along an axis, 0 by default. */
export function split(
  x: Tensor,
  sizes: Shape,
  options: AxisOptions = {},
): Tensor[] {
  const axis = normalizeAxis(options.axis ?? 0, x, "split");
  checkShape(sizes, "split into");
  const total = sizes.reduce((sum, d) => sum + d, 0);
  if (total !== x.shape[axis]) {
    throw new ShapeError(
      `Cannot split ${
        format(x)
      } along axis ${axis}: the sizes add up to ${total}, not ${x.shape[axis]}`,
    );
  }
  return evaluate(() => {
    let at = 0;
    return sizes.map((size) => {
      const ranges: Range[] = x.shape.map(() => null);
      ranges[axis] = [at, at += size];
      return slice(x, ranges);
    });
  });
}
