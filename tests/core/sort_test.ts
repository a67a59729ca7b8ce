/**
 * Sorting against JavaScript's stable sort, on both sides of the size from which blocks are merged.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { grad, jit, jvp, scope, ShapeError, type Tensor, tensor } from "cotan";
import { checkGrads } from "cotan/testing";
import { eachBackend, inFloat64 } from "../support/backends.ts";
import { upload } from "../support/primitives.ts";
import { check } from "../support/runs.ts";
import { f32, throws } from "../support/throws.ts";
import {
  distinct,
  elements,
  fill,
  seeds,
  sizeOf,
  type Value,
} from "../support/values.ts";

/** Few different numbers, NaN and infinities among them. */
const special = [NaN, -Infinity, -1, -0, 0, 0.5, 2, Infinity];

/** The order that is wanted: NaN is the largest, and equal elements keep theirs. */
function compare(a: number, b: number): number {
  if (Number.isNaN(a) || Number.isNaN(b)) {
    return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
  }
  return a === b ? 0 : a < b ? -1 : 1;
}

/** Indices that sort an axis of a host tensor. */
function argsortOf(
  { shape, data }: Value,
  axis: number,
  descending: boolean,
): number[] {
  const size = shape[axis]!;
  const stride = sizeOf(shape.slice(axis + 1));
  const out = new Array<number>(data.length);
  for (let start = 0; start < data.length; start++) {
    if (Math.floor(start / stride) % size !== 0) continue;
    const at = (i: number): number => data[start + i * stride]!;
    Array.from({ length: size }, (_, i) => i)
      .sort((i, j) => (descending ? -1 : 1) * compare(at(i), at(j)))
      .forEach((i, rank) => out[start + rank * stride] = i);
  }
  return out;
}

const values: fc.Arbitrary<Value> = fc.record({
  shape: fc.oneof(
    fc.array(fc.integer({ min: 0, max: 6 }), { minLength: 1, maxLength: 3 }),
    fc.tuple(
      fc.integer({ min: 1, max: 2 }),
      fc.integer({ min: 120, max: 600 }),
    ),
    fc.tuple(fc.integer({ min: 120, max: 300 }), fc.constantFrom(1, 3)),
  ),
  dtype: fc.constantFrom("f32", "i32", "u32", "bool"),
  seed: seeds,
  often: fc.boolean(),
}).map(({ shape, dtype, seed, often }) =>
  fill(
    shape,
    dtype,
    seed,
    dtype === "f32" && often
      ? (u) => special[Math.floor(u * special.length)]!
      : elements[dtype],
  )
);

eachBackend(
  "argsort and sort are JavaScript's stable sort along any axis, either way",
  async (backend) => {
    const holds = fc.asyncProperty(
      values,
      fc.nat(2),
      fc.boolean(),
      async (value, at, descending) => {
        const axis = at % value.shape.length - value.shape.length;
        const [order, sorted] = scope(() => {
          const x = upload(value);
          const options = { axis, descending };
          return [x.argsort(options), x.sort(options)] as const;
        });
        using _ = order, __ = sorted;
        const want = argsortOf(value, axis + value.shape.length, descending);
        assertEquals([...await order.data()], want);
        assertEquals(String(order), `i32[${value.shape.join(", ")}]`);
        const stride = sizeOf(value.shape.slice(axis).slice(1));
        const size = value.shape.at(axis)!;
        assertEquals(
          [...await sorted.data()],
          want.map((i, to) => {
            const start = to - Math.floor(to / stride) % size * stride;
            return value.data[start + i * stride]!;
          }),
        );
      },
    );
    await check(holds, backend === "webgpu" ? 8 : 40);
  },
);

eachBackend("a long axis is sorted", async () => {
  const value = fill([5000], "f32", 3);
  const x = upload(value);
  assertEquals([...await x.argsort().data()], argsortOf(value, 0, false));
}, ["wasm"]);

inFloat64("stages of sorting are small kernels of their own", () => {
  using order = jit((x: Tensor) => x.argsort());
  const { kernels } = order.program(tensor(new Float32Array(2 ** 12)));
  assert(kernels.length <= 120);
  for (const { kind, flops, shape } of kernels) {
    assert(kind === "reduce" || flops <= 30 * sizeOf(shape));
  }
});

eachBackend("topK takes the largest, the first of equals first", async () => {
  const x = tensor([[3, 1, 3, 2], [NaN, 0, Infinity, NaN]]);
  const { values, indices } = x.topK(3);
  assertEquals(await values.toArray(), [[3, 3, 2], [NaN, NaN, Infinity]]);
  assertEquals(await indices.toArray(), [[0, 2, 3], [0, 3, 2]]);
  const rows = x.topK(1, { axis: 0 });
  assertEquals(await rows.values.toArray(), [[NaN, 1, Infinity, NaN]]);
  assertEquals(await rows.indices.toArray(), [[1, 0, 1, 1]]);
  assertEquals(x.topK(0).values.shape, [2, 0]);
  const ids = tensor([2, 9, 4], { dtype: "i32" }).topK(2);
  assertEquals(await ids.values.toArray(), [9, 4]);
  assertEquals(String(ids.values), "i32[2]");
});

inFloat64(
  "gradients of sort and topK go back to where it took from",
  async () => {
    const x = tensor([3, 1, 2]), weights = tensor([1, 10, 100]);
    const slope = grad((x) => x.sort().mul(weights).sum());
    assertEquals(await slope(x).toArray(), [100, 1, 10]);
    const top = grad((x) => x.topK(2).values.mul(tensor([1, 10])).sum());
    assertEquals(await top(x).toArray(), [1, 0, 10]);
    const { tangent } = jvp((x: Tensor) => x.sort(), [x], [weights]);
    assertEquals(await tangent.toArray(), [10, 100, 1]);
  },
);

inFloat64("gradients of sort and topK are right to order 2", async () => {
  for (const shape of [[7], [3, 5], [2, 130]]) {
    const x = upload(distinct(shape, 5));
    await checkGrads((x) => x.sort({ axis: 0 }).square().tanh(), [x], {
      order: 2,
    });
    await checkGrads(
      (x) => x.sort({ descending: true }).cumsum().sin(),
      [x],
      { order: 2 },
    );
    await checkGrads((x) => x.topK(2).values.square().sin(), [x], { order: 2 });
  }
});

throws("a k that is no part of the axis is named", ShapeError, [
  [
    () => f32(3).topK(-1).values,
    "Cannot take topK of f32[3]: k is -1, and axis 0 has size 3",
  ],
  [
    () => f32(3).topK(1.5).values,
    "Cannot take topK of f32[3]: k is 1.5, and axis 0 has size 3",
  ],
]);
