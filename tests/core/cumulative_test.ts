/**
 * Products and cumulative sums against plain loops, and their gradients.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { DTypeError, grad, jit, scope, type Tensor, tensor } from "cotan";
import { checkGrads } from "cotan/testing";
import { assertClose } from "../support/allclose.ts";
import { eachBackend, inFloat64 } from "../support/backends.ts";
import { upload } from "../support/primitives.ts";
import { check } from "../support/runs.ts";
import { bool, throws } from "../support/throws.ts";
import {
  awayFromZero,
  between,
  fill,
  seeds,
  sizeOf,
  type Value,
} from "../support/values.ts";

const shapes = fc.oneof(
  fc.array(fc.integer({ min: 0, max: 6 }), { minLength: 1, maxLength: 3 }),
  fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 28, max: 140 })),
  fc.tuple(fc.integer({ min: 1000, max: 1100 })),
);

/** Folds along an axis, giving each intermediate result. */
function scan(
  { shape, data }: Value,
  axis: number,
  f: (a: number, b: number) => number,
): number[] {
  const stride = sizeOf(shape.slice(axis + 1)), size = shape[axis]!;
  const out = [...data];
  for (let i = 0; i < out.length; i++) {
    if (Math.floor(i / stride) % size > 0) {
      out[i] = f(out[i - stride]!, out[i]!);
    }
  }
  return out;
}

eachBackend("cumsum is a loop that adds", async (backend) => {
  const holds = fc.asyncProperty(
    shapes,
    fc.constantFrom("f32" as const, "i32" as const, "u32" as const),
    seeds,
    fc.nat(2),
    async (shape, dtype, seed, at) => {
      const axis = at % shape.length;
      const value = fill(shape, dtype, seed);
      using out = scope(() => upload(value).cumsum({ axis }));
      const add = {
        f32: (a: number, b: number) => a + b,
        i32: (a: number, b: number) => (a + b) | 0,
        u32: (a: number, b: number) => (a + b) >>> 0,
      };
      await assertClose(out, scan(value, axis, add[dtype]), {
        terms: shape[axis]!,
        ...dtype === "f32" && { atol: 3e-6 },
      });
    },
  );
  await check(holds, backend === "webgpu" ? 8 : 40);
});

eachBackend("prod is a loop that multiplies", async (backend) => {
  const holds = fc.asyncProperty(
    shapes,
    fc.boolean(),
    seeds,
    fc.nat(2),
    async (shape, isFloat, seed, at) => {
      const axis = at % shape.length, size = shape[axis]!;
      const value = isFloat
        ? fill(shape, "f32", seed, awayFromZero(0.95, 1.05))
        : fill(shape, "i32", seed);
      using out = scope(() => upload(value).prod({ axis, keepDims: true }));
      const all = scan(
        value,
        axis,
        isFloat ? (a, b) => a * b : Math.imul,
      );
      const stride = sizeOf(shape.slice(axis + 1));
      const last = all.filter((_, i) =>
        Math.floor(i / stride) % size === size - 1
      );
      const rest = sizeOf(shape.toSpliced(axis, 1));
      const want = size === 0 ? new Array<number>(rest).fill(1) : last;
      await assertClose(out, want, { terms: size });
    },
  );
  await check(holds, backend === "webgpu" ? 8 : 40);
});

inFloat64(
  "cumulative sums and products have the right gradients to order 2",
  async () => {
    for (const shape of [[1], [5], [2, 3], [3, 40], [70]]) {
      const x = upload(fill(shape, "f32", 4, between(-1, 1)));
      await checkGrads((x) => x.cumsum({ axis: 0 }).sin(), [x], { order: 2 });
      await checkGrads((x) => x.cumsum().tanh(), [x], { order: 2 });
      const near = upload(fill(shape, "f32", 4, awayFromZero(0.9, 1.2)));
      await checkGrads((x) => x.prod({ axis: -1 }).sin(), [near], { order: 2 });
      await checkGrads((x) => x.prod(), [near], { order: 2 });
    }
  },
);

eachBackend("the gradient of a product with zeros is exact", async () => {
  const slope = grad((x) => x.prod().sum());
  assertEquals(await slope(tensor([2, 0, 3])).toArray(), [0, 6, 0]);
  assertEquals(await slope(tensor([0, 5, 0])).toArray(), [0, 0, 0]);
  const curve = grad((x) => slope(x).mul(tensor([0, 1, 0])).sum());
  assertEquals(await curve(tensor([0, 5, 4])).toArray(), [4, 0, 0]);
});

inFloat64("sums and products of long axes take few and small kernels", () => {
  const x = tensor(new Float32Array(2 ** 16));
  using sums = jit((x: Tensor) => x.cumsum());
  using product = jit((x: Tensor) => x.prod());
  assert(sums.program(x).kernels.length <= 20);
  const { kernels } = product.program(x);
  assert(kernels.length <= 20);
  // Kernels that are not cut off from each other would multiply all in one.
  for (const { flops, shape } of kernels) assert(flops <= 15 * sizeOf(shape));
});

throws("truth values are neither added up nor multiplied", DTypeError, [
  [
    () => bool(2).cumsum(),
    "Cannot cumsum bool[2]: it must be a number; use cast",
  ],
  [() => bool(2).prod(), "Cannot prod bool[2]: it must be a number; use cast"],
  [() => bool(2).min(), "Cannot min bool[2]: it must be a number; use cast"],
]);
