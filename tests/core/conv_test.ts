/**
 * Convolution against direct loops, its gradients and its errors.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { conv, DTypeError, scope, ShapeError } from "cotan";
import { checkGrads } from "cotan/testing";
import { assertClose } from "../support/allclose.ts";
import { eachBackend, inFloat64 } from "../support/backends.ts";
import { upload } from "../support/primitives.ts";
import { check } from "../support/runs.ts";
import { f32, i32, throws } from "../support/throws.ts";
import { fill, seeds, type Value } from "../support/values.ts";

/** A convolution over two axes; one over one axis has a first axis of size 1. */
interface Example {
  readonly rank: 1 | 2;
  readonly batch: number;
  readonly groups: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly size: readonly [number, number];
  readonly kernel: readonly [number, number];
  readonly stride: readonly [number, number];
  readonly padding: readonly [number, number];
  readonly dilation: readonly [number, number];
  readonly seed: number;
}

const pair = (min: number, max: number) =>
  fc.tuple(fc.integer({ min, max }), fc.integer({ min, max }));

const examples: fc.Arbitrary<Example> = fc.record({
  rank: fc.constantFrom(1 as const, 2 as const),
  batch: fc.integer({ min: 0, max: 3 }),
  groups: fc.integer({ min: 1, max: 3 }),
  inputs: fc.integer({ min: 1, max: 3 }),
  outputs: fc.integer({ min: 1, max: 3 }),
  size: pair(1, 8),
  kernel: pair(1, 3),
  stride: pair(1, 3),
  padding: pair(0, 2),
  dilation: pair(1, 3),
  seed: seeds,
}).map((e) =>
  e.rank === 2 ? e : {
    ...e,
    size: [1, e.size[1]] as const,
    kernel: [1, e.kernel[1]] as const,
    stride: [1, e.stride[1]] as const,
    padding: [0, e.padding[1]] as const,
    dilation: [1, e.dilation[1]] as const,
  }
).filter(({ size, kernel, padding, dilation }) =>
  [0, 1].every((i) =>
    (kernel[i]! - 1) * dilation[i]! + 1 <= size[i]! + 2 * padding[i]!
  )
);

/** Sizes of an example as tensors have them. */
function shapesOf(
  e: Example,
): { x: number[]; weight: number[]; out: number[] } {
  const space = (pair: readonly number[]): number[] => pair.slice(2 - e.rank);
  const out = [0, 1].map((i) =>
    Math.floor(
      (e.size[i]! + 2 * e.padding[i]! - (e.kernel[i]! - 1) * e.dilation[i]! -
        1) /
        e.stride[i]!,
    ) + 1
  );
  return {
    x: [e.batch, e.groups * e.inputs, ...space(e.size)],
    weight: [e.groups * e.outputs, e.inputs, ...space(e.kernel)],
    out: [e.batch, e.groups * e.outputs, ...space(out)],
  };
}

/** The convolution by loops over every index. */
function direct(e: Example, x: Value, weight: Value): number[] {
  const { out } = shapesOf(e);
  const [height, width] = e.rank === 2 ? out.slice(2) : [1, out[2]];
  const all: number[] = [];
  for (let n = 0; n < e.batch; n++) {
    for (let o = 0; o < e.groups * e.outputs; o++) {
      for (let i = 0; i < height!; i++) {
        for (let j = 0; j < width!; j++) {
          let sum = 0;
          for (let c = 0; c < e.inputs; c++) {
            for (let p = 0; p < e.kernel[0]; p++) {
              for (let q = 0; q < e.kernel[1]; q++) {
                const row = i * e.stride[0] + p * e.dilation[0] - e.padding[0];
                const column = j * e.stride[1] + q * e.dilation[1] -
                  e.padding[1];
                const isInside = row >= 0 && row < e.size[0] && column >= 0 &&
                  column < e.size[1];
                if (!isInside) continue;
                const channel = Math.floor(o / e.outputs) * e.inputs + c;
                const at = n * e.groups * e.inputs + channel;
                sum += x.data[(at * e.size[0] + row) * e.size[1] + column]! *
                  weight.data[
                    ((o * e.inputs + c) * e.kernel[0] + p) * e.kernel[1] + q
                  ]!;
              }
            }
          }
          all.push(sum);
        }
      }
    }
  }
  return all;
}

function optionsOf(e: Example) {
  const from = 2 - e.rank;
  return {
    stride: e.stride.slice(from),
    padding: e.padding.slice(from),
    dilation: e.dilation.slice(from),
    groups: e.groups,
  };
}

eachBackend(
  "convolutions with any stride, padding, dilation and groups are the direct loops",
  async (backend) => {
    const holds = fc.asyncProperty(examples, async (e) => {
      const shapes = shapesOf(e);
      const x = fill(shapes.x, "f32", e.seed);
      const weight = fill(shapes.weight, "f32", e.seed + 1);
      using out = scope(() => conv(upload(x), upload(weight), optionsOf(e)));
      assertEquals(out.shape, shapes.out);
      await assertClose(out, direct(e, x, weight), {
        terms: e.inputs * e.kernel[0] * e.kernel[1],
        atol: 1e-5,
      });
    });
    await check(holds, backend === "webgpu" ? 8 : 60);
  },
);

inFloat64("gradients of convolutions are right to order 2", async () => {
  const holds = fc.asyncProperty(
    examples.filter(({ batch }) => batch > 0),
    async (e) => {
      const shapes = shapesOf(e);
      const x = upload(fill(shapes.x, "f32", e.seed));
      const weight = upload(fill(shapes.weight, "f32", e.seed + 1));
      const options = optionsOf(e);
      await checkGrads(
        (x, weight) => conv(x, weight, options).mul(0.2).tanh(),
        [x, weight],
        { order: 2 },
      );
    },
  );
  await check(holds, 15);
});

inFloat64("padding may be named", async () => {
  const x = upload(fill([1, 2, 7], "f32", 1));
  const weight = upload(fill([3, 2, 4], "f32", 2));
  const same = x.conv(weight, { padding: "same" });
  assertEquals(same.shape, [1, 3, 7]);
  // Three zeros, the odd one behind.
  await assertClose(same, x.pad([[0, 0], [0, 0], [1, 2]]).conv(weight));
  const strided = x.conv(weight, { padding: "same", stride: 3, dilation: 2 });
  assertEquals(strided.shape, [1, 3, 3]);
  await assertClose(
    strided,
    x.pad([[0, 0], [0, 0], [3, 3]]).conv(weight, { stride: 3, dilation: 2 }),
  );
  await assertClose(x.conv(weight, { padding: "valid" }), x.conv(weight));
});

throws("convolutions that do not fit are named with the numbers", ShapeError, [
  [
    () => f32(2, 3).conv(f32(4, 3)),
    "Cannot convolve f32[2, 3] by f32[4, 3]: both must have 3 axes, or both 4",
  ],
  [
    () => f32(2, 3, 5).conv(f32(4, 3, 1, 1)),
    "Cannot convolve f32[2, 3, 5] by f32[4, 3, 1, 1]: both must have 3 axes, or both 4",
  ],
  [
    () => f32(2, 3, 5).conv(f32(4, 2, 1)),
    "Cannot convolve f32[2, 3, 5] by f32[4, 2, 1]: 1 groups of 2 input channels are not 3 channels",
  ],
  [
    () => f32(2, 4, 5).conv(f32(3, 2, 1), { groups: 2 }),
    "Cannot convolve f32[2, 4, 5] by f32[3, 2, 1]: 3 output channels do not divide into 2 groups",
  ],
  [
    () => f32(2, 4, 5).conv(f32(4, 4, 1), { groups: 0 }),
    "Cannot convolve f32[2, 4, 5] by f32[4, 4, 1]: 4 output channels do not divide into 0 groups",
  ],
  [
    () => f32(1, 1, 4).conv(f32(1, 1, 3), { dilation: 2 }),
    "Cannot convolve f32[1, 1, 4] by f32[1, 1, 3]: a kernel that reaches over 5 does not fit in 4",
  ],
  [
    () => f32(1, 1, 4).conv(f32(1, 1, 0)),
    "Cannot convolve f32[1, 1, 4] by f32[1, 1, 0]: a kernel has no empty axis",
  ],
  [
    () => f32(1, 1, 4).conv(f32(1, 1, 3), { stride: 0 }),
    "Cannot convolve f32[1, 1, 4] by f32[1, 1, 3]: stride [0] is not 1 integers of at least 1",
  ],
  [
    () => f32(1, 1, 4, 4).conv(f32(1, 1, 3, 3), { padding: [1] }),
    "Cannot convolve f32[1, 1, 4, 4] by f32[1, 1, 3, 3]: padding [1] is not 2 integers of at least 0",
  ],
]);

throws("convolutions are of f32", DTypeError, [
  [
    () => i32(1, 1, 4).conv(f32(1, 1, 3)),
    "Cannot convolve i32[1, 1, 4] by f32[1, 1, 3]: both must be f32; use cast",
  ],
]);
