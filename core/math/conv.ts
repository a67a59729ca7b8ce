/**
 * Convolution.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { DTypeError, ShapeError } from "../errors.ts";
import { format, type Shape, sizeOf } from "../shape.ts";
import type { ConvOptions, Tensor } from "../tensor.ts";
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
  const fail = (rule: string): never => {
    throw new ShapeError(
      `Cannot convolve ${format(x)} by ${format(weight)}: ${rule}`,
    );
  };
  if (x.dtype !== "f32" || weight.dtype !== "f32") {
    throw new DTypeError(
      `Cannot convolve ${format(x)} by ${
        format(weight)
      }: both must be f32; use cast`,
    );
  }
  const rank = x.shape.length;
  if (rank !== weight.shape.length || rank !== 3 && rank !== 4) {
    fail("both must have 3 axes, or both 4");
  }
  const [batch, channels, ...sizes] = x.shape as [number, number];
  const [outputs, inputs, ...kernel] = weight.shape as [number, number];
  const { groups = 1, padding = 0 } = options;
  if (!Number.isInteger(groups) || groups < 1 || outputs % groups !== 0) {
    fail(`${outputs} output channels do not divide into ${groups} groups`);
  }
  if (channels !== inputs * groups) {
    fail(
      `${groups} groups of ${inputs} input channels are not ${channels} channels`,
    );
  }
  const perAxis = (name: string, value: number | Shape, least: number) => {
    const list = typeof value === "number" ? sizes.map(() => value) : value;
    if (
      list.length !== sizes.length ||
      list.some((n) => !Number.isInteger(n) || n < least)
    ) {
      fail(
        `${name} [${
          list.join(", ")
        }] is not ${sizes.length} integers of at least ${least}`,
      );
    }
    return list;
  };
  const stride = perAxis("stride", options.stride ?? 1, 1);
  const dilation = perAxis("dilation", options.dilation ?? 1, 1);
  const reach = kernel.map((k, i) => (k - 1) * dilation[i]! + 1);
  const margins = typeof padding === "string"
    ? sizes.map((size, i) => {
      const steps = Math.ceil(size / stride[i]!) - 1;
      const total = padding === "valid"
        ? 0
        : Math.max(0, steps * stride[i]! + reach[i]! - size);
      return [Math.floor(total / 2), Math.ceil(total / 2)] as const;
    })
    : perAxis("padding", padding, 0).map((n) => [n, n] as const);
  const spaces = sizes.map((size, i) => size + margins[i]![0] + margins[i]![1]);
  const out = spaces.map((size, i) => {
    if (kernel[i] === 0 || reach[i]! > size) {
      fail(`a kernel that reaches over ${reach[i]} does not fit in ${size}`);
    }
    return Math.floor((size - reach[i]!) / stride[i]!) + 1;
  });
  return evaluate(() => {
    const padded = pad(x, [[0, 0], [0, 0], ...margins]);
    const pieces = offsetsOf(kernel).map((offset) =>
      slice(padded, [
        null,
        null,
        ...offset.map((at, i) => {
          const start = at * dilation[i]!;
          const stop = start + (out[i]! - 1) * stride[i]! + 1;
          return [start, stop, stride[i]!] as const;
        }),
      ])
    );
    const depth = inputs * sizeOf(kernel);
    const columns = reshape(stack(pieces, { axis: 2 }), [
      batch,
      groups,
      depth,
      sizeOf(out),
    ]);
    const rows = reshape(weight, [groups, outputs / groups, depth]);
    const product = matmul(expand(rows, [batch, ...rows.shape]), columns);
    return reshape(product, [batch, outputs, ...out]);
  });
}

/** Every index of a shape, in row-major order. */
function offsetsOf(shape: Shape): number[][] {
  return shape.reduce<number[][]>(
    (all, size) =>
      all.flatMap((at) => Array.from({ length: size }, (_, i) => [...at, i])),
    [[]],
  );
}
