/**
 * Values at the edges of the number types, and functions without a golden file, on every backend.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import * as cotan from "cotan";
import { type DType, type Tensor, tensor } from "cotan";
import * as math from "../../core/math/mod.ts";
import { eachBackend } from "../support/backends.ts";

/** Asserts exact results, NaN and infinities among them. */
async function assertData(
  cases: readonly (readonly [Tensor, readonly number[]])[],
): Promise<void> {
  for (const [i, [actual, expected]] of cases.entries()) {
    assertEquals([i, ...await actual.data()], [i, ...expected]);
  }
}

const of = (dtype: DType, ...values: number[]): Tensor =>
  tensor(values, { dtype });

Deno.test("every operation on a tensor is a method", () => {
  const functionsOnly = Object.keys(math).filter((name) =>
    !(name in cotan.Tensor.prototype)
  );
  const creation = "arange eye fromChunks full iota linspace ones tensor zeros";
  const severalTensors =
    "concat dotProductAttention einsum scoresLogSumExp scoresTotal stack where";
  assertEquals(
    functionsOnly.sort(),
    `${creation} ${severalTensors} factorsOf`.split(" ").sort(),
  );
});

eachBackend("comparisons with NaN are false, and NaN is found", async () => {
  const x = of("f32", NaN, 1, -Infinity, NaN), y = of("f32", NaN, NaN, 0, 2);
  await assertData([
    [x.isNaN(), [1, 0, 0, 1]],
    [x.eq(y), [0, 0, 0, 0]],
    [x.ne(y), [1, 1, 1, 1]],
    [x.lt(y), [0, 0, 1, 0]],
    [x.le(y), [0, 0, 1, 0]],
    [x.gt(y), [0, 0, 0, 0]],
    [x.ge(y), [0, 0, 0, 0]],
    [x.cast("bool"), [1, 1, 1, 1]],
  ]);
});

eachBackend(
  "NaN and infinities go through functions as they do in IEEE 754",
  async () => {
    const x = of("f32", NaN, Infinity, -Infinity);
    await assertData([
      [x.maximum(0), [NaN, Infinity, 0]],
      [x.minimum(0), [NaN, 0, -Infinity]],
      [x.clip(-1, 1), [NaN, 1, -1]],
      [x.abs(), [NaN, Infinity, Infinity]],
      [x.sign(), [NaN, 1, -1]],
      [x.relu(), [NaN, Infinity, 0]],
      [x.exp(), [NaN, Infinity, 0]],
      [x.tanh(), [NaN, 1, -1]],
      [x.sigmoid(), [NaN, 1, 0]],
      [x.softplus(), [NaN, Infinity, 0]],
      [x.elu(), [NaN, Infinity, -1]],
      [x.floor(), [NaN, Infinity, -Infinity]],
      [x.max(), [NaN]],
      [x.min(), [NaN]],
      [x.sum(), [NaN]],
      [x.slice([[1, 3]]).max(), [Infinity]],
      [x.slice([[1, 3]]).logSumExp(), [Infinity]],
      [of("f32", -Infinity, -Infinity).logSumExp(), [-Infinity]],
      [of("f32", -Infinity, 0, -Infinity).softmax(), [0, 1, 0]],
    ]);
  },
);

// The compiler of a shader may take x · 0 and x - x for 0, whatever x is (WGSL, floating point evaluation).
eachBackend(
  "arithmetic with NaN and infinities is that of IEEE 754",
  async () => {
    const x = of("f32", NaN, Infinity, -Infinity);
    await assertData([
      [x.mul(0), [NaN, NaN, NaN]],
      [x.sub(x), [NaN, NaN, NaN]],
      [x.div(x), [NaN, NaN, NaN]],
      [x.add(1), [NaN, Infinity, -Infinity]],
    ]);
  },
  ["reference", "wasm"],
);

eachBackend(
  "the first of several extremes is found, and NaN is one",
  async () => {
    const x = tensor([[1, 3, 3], [2, 2, 2], [NaN, 5, NaN], [0, NaN, 9]]);
    await assertData([
      [x.argmax(), [1, 0, 0, 1]],
      [x.argmin(), [0, 0, 0, 1]],
      [x.argmax({ axis: 0 }).slice([[1, 2]]), [3]],
      [of("i32", -5, 7, 7).argmax(), [1]],
      [of("i32", -5, 7, -5).argmin(), [0]],
    ]);
  },
);

eachBackend(
  "integers wrap around, and division by zero gives zero",
  async () => {
    const low = -(2 ** 31), high = 2 ** 31 - 1, top = 2 ** 32 - 1;
    const a = of("i32", high, low, 7, -7, -7), b = of("i32", 1, -1, 0, 2, -2);
    const u = of("u32", top, 5, 7), v = of("u32", 2, 0, 9);
    await assertData([
      [a.add(b), [low, high, 7, -5, -9]],
      [a.mul(of("i32", 2, 2, 65536, 1, 1)), [-2, 0, 7 * 65536, -7, -7]],
      [a.div(b), [high, low, 0, -3, 3]],
      [a.neg(), [-high, low, -7, 7, 7]],
      [a.abs(), [high, low, 7, 7, 7]],
      [a.sign(), [1, -1, 1, -1, -1]],
      [u.add(v), [1, 5, 16]],
      [v.sub(u), [3, top - 4, 2]],
      [u.div(v), [high, 0, 0]],
      [u.mul(u), [1, 25, 49]],
      [v.lt(u), [1, 1, 0]],
      [u.maximum(v), [top, 5, 9]],
      [u.max(), [top]],
    ]);
  },
);

eachBackend(
  "conversion truncates toward zero and stops at the ends of the range",
  async () => {
    const x = of("f32", 1.9, -1.9, 3e9, -3e9, NaN, Infinity, -Infinity, 5e9);
    const low = -(2 ** 31), high = 2 ** 31 - 1, top = 2 ** 32 - 1;
    await assertData([
      [x.cast("i32"), [1, -1, high, low, 0, high, low, high]],
      [x.cast("u32"), [1, 0, 3e9, 0, 0, top, 0, top]],
      [x.cast("bool"), [1, 1, 1, 1, 1, 1, 1, 1]],
      [of("f32", 0, -0, 1e-30).cast("bool"), [0, 0, 1]],
      [of("i32", -1, low, high).cast("u32"), [top, 2 ** 31, high]],
      [of("u32", top, 2 ** 31, 5).cast("i32"), [-1, low, 5]],
      [of("u32", top, 2 ** 31).cast("f32"), [2 ** 32, 2 ** 31]],
      [of("i32", -3, 16777217).cast("f32"), [-3, 16777216]],
      [of("bool", 1, 0).cast("f32"), [1, 0]],
      [of("i32", 0, -2).cast("bool"), [0, 1]],
    ]);
  },
);

eachBackend(
  "an index outside its axis is taken as the nearest inside",
  async () => {
    const x = tensor([10, 20, 30]), index = of("i32", -5, 0, 2, 99);
    await assertData([
      [x.take(index), [10, 10, 30, 30]],
      [x.gather(index), [10, 10, 30, 30]],
      [x.scatterAdd(index, of("f32", 1, 2, 3, 4)), [13, 20, 37]],
      [cotan.oneHot(of("i32", 1, -1, 3), 3), [0, 1, 0, 0, 0, 0, 0, 0, 0]],
    ]);
  },
);

eachBackend(
  "creation gives what NumPy's functions of these names give",
  async () => {
    await assertData([
      [cotan.arange(4), [0, 1, 2, 3]],
      [cotan.arange(1, { start: 5, step: -2 }), [5, 3]],
      [cotan.arange(3, { start: 3 }), []],
      [cotan.linspace(0, 1, 5), [0, 0.25, 0.5, 0.75, 1]],
      [cotan.linspace(2, 3, 1), [2]],
      [cotan.eye(2), [1, 0, 0, 1]],
      [cotan.eye(2, { dtype: "i32" }), [1, 0, 0, 1]],
      [cotan.iota([2, 2], { axis: 1 }), [0, 1, 0, 1]],
      [cotan.full([2], 7, { dtype: "u32" }), [7, 7]],
      [cotan.full([2], NaN), [NaN, NaN]],
      [cotan.zeros([0, 3]), []],
      [tensor([true, false]), [1, 0]],
      [tensor(5), [5]],
      [tensor([[], []]), []],
    ]);
    assertEquals(cotan.tensor([[], []]).shape, [2, 0]);
    assertEquals(await tensor([true, false]).toArray(), [true, false]);
  },
);

eachBackend(
  "reductions of nothing give the neutral element, and empty axes stay",
  async () => {
    const x = cotan.zeros([2, 0]);
    await assertData([
      [x.sum({ axis: 1 }), [0, 0]],
      [x.sum(), [0]],
      [x.sum({ axis: 0 }), []],
      [x.max({ axis: 0 }), []],
      [cotan.full([0], Infinity).sum(), [0]],
      [x.matmul(cotan.zeros([0, 2])), [0, 0, 0, 0]],
      [cotan.concat([x, cotan.ones([2, 1])], { axis: 1 }), [1, 1]],
      [x.pad([[0, 0], [1, 0]], { value: 3 }), [3, 3]],
      [x.tanh().expand([3, 2, 0]), []],
    ]);
  },
);
