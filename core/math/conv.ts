/**
 * Convolution.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { DTypeError, ShapeError } from "../errors.ts";
import { format, type Shape, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import type { ConvOptions, Range } from "../tensor_methods.ts";
import { evaluate } from "../trace.ts";
import { expand, pad, reshape, slice, stack } from "./movement.ts";
import { matmul } from "./products.ts";

/**
 * Convolution as neural networks have it, that is cross-correlation, over one or two axes: `x` [N, C, ...in] by
 * `weight` [O, C / groups, ...kernel] gives [N, O, ...out], as torch.conv1d and conv2d.
 *
 * Padding is a number of zeros on both sides, none by default, "valid" for none, or "same" for as many as make
 * out = ⌈in / stride⌉, the odd one behind. Throws `ShapeError` where ranks, channels, groups or sizes do not fit.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { conv, tensor } from "cotan";
 *
 * const x = tensor([[[1, 2, 3, 4]]]), weight = tensor([[[1, 0, -1]]]);
 * assertEquals(await conv(x, weight).toArray(), [[[-2, -2]]]);
 * assertEquals(await conv(x, weight, { padding: 1, stride: 2 }).toArray(), [[[-2, -2]]]);
 * ```
 */
export function conv(
  x: Tensor,
  weight: Tensor,
  options: ConvOptions = {},
): Tensor {
  const { stride, dilation, margins, out } = layoutOf(x, weight, options);
  const { groups = 1 } = options;
  const [outputs, inputs, ...kernel] = weight.shape as Sizes;
  const batch = x.shape[0]!, depth = inputs * sizeOf(kernel);
  return evaluate(() => {
    const padded = pad(x, [[0, 0], [0, 0], ...margins]);
    // What each element of the kernel meets, as [N, C, ...kernel, ...out].
    const met = offsetsOf(kernel).map((offset) => {
      const ranges = offset.map((at, i): Range => {
        const start = at * dilation[i]!;
        return [start, start + (out[i]! - 1) * stride[i]! + 1, stride[i]!];
      });
      return slice(padded, [null, null, ...ranges]);
    });
    const columns = stack(met, { axis: 2 });
    const rows = reshape(weight, [groups, outputs / groups, depth]);
    const product = matmul(
      expand(rows, [batch, ...rows.shape]),
      reshape(columns, [batch, groups, depth, sizeOf(out)]),
    );
    return reshape(product, [batch, outputs, ...out]);
  });
}

/** Channels, and the axes that are convolved. */
type Sizes = readonly [outer: number, inner: number, ...spaces: number[]];

/** What a convolution's options come to on each axis. */
interface Layout {
  readonly stride: Shape;
  readonly dilation: Shape;
  readonly margins: readonly (readonly [before: number, after: number])[];
  /** Sizes of the result. */
  readonly out: Shape;
}

function layoutOf(x: Tensor, weight: Tensor, options: ConvOptions): Layout {
  const types = `${format(x)} by ${format(weight)}`;
  const expect = (holds: boolean, rule: () => string): void => {
    if (!holds) throw new ShapeError(`Cannot convolve ${types}: ${rule()}`);
  };
  if (x.dtype !== "f32" || weight.dtype !== "f32") {
    throw new DTypeError(
      `Cannot convolve ${types}: both must be f32; use cast`,
    );
  }
  const rank = x.shape.length;
  expect(
    rank === weight.shape.length && (rank === 3 || rank === 4),
    () => "both must have 3 axes, or both 4",
  );
  const [, channels, ...sizes] = x.shape;
  const [outputs, inputs, ...kernel] = weight.shape as Sizes;
  const { groups = 1, padding = 0 } = options;
  expect(
    Number.isInteger(groups) && groups >= 1 && outputs % groups === 0,
    () => `${outputs} output channels do not divide into ${groups} groups`,
  );
  expect(
    channels === inputs * groups,
    () =>
      `${groups} groups of ${inputs} input channels are not ${channels} channels`,
  );
  const perAxis = (name: string, value: number | Shape, least: number) => {
    const list = typeof value === "number" ? sizes.map(() => value) : value;
    expect(
      list.length === sizes.length &&
        list.every((n) => Number.isInteger(n) && n >= least),
      () =>
        `${name} [${
          list.join(", ")
        }] is not ${sizes.length} integers of at least ${least}`,
    );
    return list;
  };
  const stride = perAxis("stride", options.stride ?? 1, 1);
  const dilation = perAxis("dilation", options.dilation ?? 1, 1);
  expect(!kernel.includes(0), () => "a kernel has no empty axis");
  const reach = kernel.map((k, i) => (k - 1) * dilation[i]! + 1);
  const margins = padding === "same"
    ? sizes.map((size, i) => {
      const last = (Math.ceil(size / stride[i]!) - 1) * stride[i]!;
      const total = Math.max(0, last + reach[i]! - size);
      return [Math.floor(total / 2), Math.ceil(total / 2)] as const;
    })
    : perAxis("padding", padding === "valid" ? 0 : padding, 0)
      .map((n) => [n, n] as const);
  const out = sizes.map((size, i) => {
    const space = size + margins[i]![0] + margins[i]![1];
    expect(
      reach[i]! <= space,
      () => `a kernel that reaches over ${reach[i]} does not fit in ${space}`,
    );
    return Math.floor((space - reach[i]!) / stride[i]!) + 1;
  });
  return { stride, dilation, margins, out };
}

/** Every index of a shape, in row-major order. */
function offsetsOf(shape: Shape): number[][] {
  return shape.reduce<number[][]>(
    (all, size) =>
      all.flatMap((at) => Array.from({ length: size }, (_, i) => [...at, i])),
    [[]],
  );
}
