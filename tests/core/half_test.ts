/**
 * The halves: conversion of every bit pattern, and what may be done with them.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  checkpoint,
  concat,
  DTypeError,
  full,
  grad,
  jit,
  memory,
  ones,
  scan,
  scope,
  type Tensor,
  tensor,
  valueAndGrad,
  vmap,
  zeros,
} from "cotan";
import { checkGrads } from "cotan/testing";
import type { Half } from "../../core/half.ts";
import { assertClose } from "../support/allclose.ts";
import { eachBackend, inFloat64 } from "../support/backends.ts";
import { throws } from "../support/throws.ts";

const halves: readonly Half[] = ["f16", "bf16"];

/** Bits of the exponent and of the fraction. */
const layouts = { f16: [5, 10], bf16: [8, 7] } as const;

/** What bits stand for, by the definition of IEEE 754. */
function valueOf(bits: number, half: Half): number {
  const [wide, long] = layouts[half];
  const bias = 2 ** (wide - 1) - 1;
  const exponent = (bits >> long) % 2 ** wide, fraction = bits % 2 ** long;
  const sign = bits >= 0x8000 ? -1 : 1;
  if (exponent === 2 ** wide - 1) return fraction > 0 ? NaN : sign * Infinity;
  return exponent === 0
    ? sign * fraction * 2 ** (1 - bias - long)
    : sign * (2 ** long + fraction) * 2 ** (exponent - bias - long);
}

/** Bits of the finite numbers that are not negative, in their order, and then of infinity. */
function ascending(half: Half): number[] {
  const [wide, long] = layouts[half];
  return Array.from({ length: (2 ** wide - 1) * 2 ** long + 1 }, (_, i) => i);
}

/** Numbers around and between all neighbours, and the bits that each is nearest to; the even ones in the middle. */
function nearest(half: Half): { values: Float32Array; bits: number[] } {
  const values: number[] = [], bits: number[] = [];
  const add = (value: number, nearest: number): void => {
    values.push(value, -value);
    bits.push(nearest, nearest + 0x8000);
  };
  const word = new Uint32Array(1), float = new Float32Array(word.buffer);
  const beside = (x: number, by: number): number => {
    float[0] = x;
    word[0]! += by;
    return float[0]!;
  };
  const order = ascending(half);
  for (const low of order.slice(0, -1)) {
    const x = valueOf(low, half);
    const next = valueOf(low + 1, half);
    // Infinity stands where the next number would.
    const y = next === Infinity ? 2 * x - valueOf(low - 1, half) : next;
    const middle = (x + y) / 2;
    add(x, low);
    add(middle, low % 2 === 0 ? low : low + 1);
    add(beside(middle, -1), low);
    add(beside(middle, 1), low + 1);
    add(beside(x, 1), low);
  }
  add(Infinity, order.at(-1)!);
  add(3e38, half === "f16" ? 0x7c00 : 0x7f62);
  return { values: Float32Array.from(values), bits };
}

const patterns = Uint16Array.from({ length: 2 ** 16 }, (_, i) => i);

for (const half of halves) {
  eachBackend(
    `every bit pattern of ${half} widens to the number that it stands for`,
    async () => {
      using x = tensor(patterns, { dtype: half });
      using wide = x.cast("f32");
      const expected = Float32Array.from(
        patterns,
        (bits) => valueOf(bits, half),
      );
      await assertClose(wide, expected, { rtol: 0, atol: 0, signedZero: true });
      await assertClose(x, expected, { rtol: 0, atol: 0, signedZero: true });
    },
  );

  eachBackend(`f32 narrows to the nearest ${half}, ties to even`, async () => {
    const { values, bits } = nearest(half);
    using x = tensor(values);
    using narrow = x.cast(half);
    const made = await narrow.bits();
    const wrong = bits.findIndex((b, i) => made[i] !== b);
    const what = `${values[wrong]} is ${made[wrong]}, not ${bits[wrong]}`;
    assertEquals(wrong, -1, what);
    using onHost = tensor(values, { dtype: half });
    assertEquals(await onHost.bits(), made);
    using nan = full([3], NaN).cast(half);
    assertEquals([...await nan.data()], [NaN, NaN, NaN]);
  });

  eachBackend(`movement of ${half} keeps every bit, NaNs too`, async () => {
    using x = tensor(patterns.subarray(1), {
      shape: [3, 5, 4369],
      dtype: half,
    });
    const back = scope(() =>
      concat([x.slice([[0, 1]]), x.slice([[1, 3]])])
        .transpose([2, 0, 1]).flip([0, 1]).pad([[1, 2]]).slice([[1, 4370]])
        .flip([0, 1]).transpose([1, 2, 0]).reshape([-1])
    );
    assertEquals(await back.bits(), patterns.subarray(1));
    const rows = tensor([2, 0], { dtype: "i32" });
    assertEquals(
      await x.take(rows).slice([[1, 2]]).reshape([-1]).bits(),
      patterns.subarray(1, 1 + 5 * 4369),
    );
  });
}

eachBackend("halves are made of numbers, of bits, and by cast", async () => {
  const x = tensor([[1, 2], [3, 1.00390625]], { dtype: "bf16" });
  assertEquals(String(x), "bf16[2, 2]");
  assertEquals(await x.toArray(), [[1, 2], [3, 1]]);
  const bits = Uint16Array.of(0x3c00, 0x7bff, 0xc000);
  const y = tensor(bits, { dtype: "f16", shape: [3, 1] });
  assertEquals(await y.toArray(), [[1], [65504], [-2]]);
  assertEquals(await y.bits(), bits);
  assertEquals(await y.slice([[1, 2]]).cast("bf16").item(), 65536);
  assertEquals(await y.cast("i32").toArray(), [[1], [65504], [-2]]);
  assertEquals(await y.cast("bool").toArray(), [[true], [true], [true]]);
  const wide = tensor([2 ** 24 + 1, -7], { dtype: "i32" }).cast("bf16");
  assertEquals(await wide.toArray(), [2 ** 24, -7]);
  const filled = [
    full([3], 0.1, { dtype: "bf16" }),
    ones([2], { dtype: "f16" }),
  ];
  assertEquals(await filled[0]!.toArray(), Array(3).fill(0.10009765625));
  assertEquals(await filled[1]!.toArray(), [1, 1]);
  const folded = jit(() => full([2], 0.1, { dtype: "bf16" }).cast("f32"));
  assertEquals(await folded().toArray(), [0.10009765625, 0.10009765625]);
});

inFloat64("in float64 halves are rounded all the same", async () => {
  const x = tensor([0.1]).cast("bf16");
  assertEquals(await x.cast("f32").item(), 0.10009765625);
  assertEquals(await tensor([0.1], { dtype: "f16" }).item(), 0.0999755859375);
});

eachBackend("an element of a half takes two bytes", () => {
  const before = memory().liveBytes;
  const x = tensor(new Uint16Array(1001), { dtype: "bf16" });
  assertEquals(memory().liveBytes - before, 2002);
  const y = scope(() => x.reshape([7, 143]).transpose().cast("f16"));
  assertEquals(memory().liveBytes - before, 2 * 2002);
  for (const each of [x, y]) each.dispose();
  assertEquals(memory().liveBytes - before, 0);
});

const bf16 = (...shape: number[]): Tensor => zeros(shape, { dtype: "bf16" });
const storage = "bf16 is for storage, and computation is in f32; use cast";

throws("computing with a half says to cast it", DTypeError, [
  [() => bf16(2).neg(), `Cannot neg bf16[2]: ${storage}`],
  [() => bf16(2).exp(), `Cannot exp bf16[2]: ${storage}`],
  [() => bf16(2).add(bf16(2)), `Cannot add bf16[2]: ${storage}`],
  [() => bf16(2).mul(0.5), `Cannot mul bf16[2]: ${storage}`],
  [
    () => bf16(2).mul(zeros([2])),
    "Cannot mul bf16[2] and f32[2]: the dtypes differ; use cast",
  ],
  [() => bf16(2).eq(0), `Cannot eq bf16[2]: ${storage}`],
  [() => bf16(2).ge(bf16(2)), `Cannot ge bf16[2]: ${storage}`],
  [() => bf16(2).sum(), `Cannot sum bf16[2]: ${storage}`],
  [() => bf16(2).max(), `Cannot max bf16[2]: ${storage}`],
  [() => bf16(2).min(), `Cannot min bf16[2]: ${storage}`],
  [() => bf16(2).sort(), `Cannot sort bf16[2]: ${storage}`],
  [() => bf16(2).argsort(), `Cannot argsort bf16[2]: ${storage}`],
  [() => bf16(2).topK(1), `Cannot take topK of bf16[2]: ${storage}`],
  [
    () => bf16(2).scatterAdd(zeros([1], { dtype: "i32" }), bf16(1)),
    `Cannot scatterAdd into bf16[2]: ${storage}`,
  ],
  [
    () => zeros([2]).matmul(bf16(2)),
    "Cannot matmul f32[2] by bf16[2]: both must be f32; use cast",
  ],
  [
    () => bf16(2).mean(),
    "Cannot take the mean of bf16[2]: it must be f32; use cast",
  ],
  [() => bf16(2).relu(), `Cannot le bf16[2]: ${storage}`],
  [() => bf16(2, 2).tril(), `Cannot where bf16[2, 2]: ${storage}`],
  [
    () => grad((x) => x.cast("f32").sum())(bf16(2)),
    "Cannot differentiate by bf16[2]: only f32 has a gradient; cast it before, or pass it as another argument",
  ],
  [
    () => tensor(new Uint16Array(2)),
    "Cannot make a tensor of f32 from a Uint16Array: it holds the bits of f16 or bf16; pass one of them as dtype",
  ],
]);

inFloat64("bits are those of halves only", async () => {
  const take = async () => await zeros([2]).bits();
  const { message } = await assertRejects(take, DTypeError);
  assertEquals(
    message,
    "Cannot take bits() of f32[2]: it must be f16 or bf16; use data()",
  );
});

eachBackend(
  "a gradient goes past frozen halves, and none is formed for them",
  async () => {
    const frozen = tensor([[1, 2], [3, 4]], { dtype: "bf16" });
    const loss = (p: { a: Tensor }, w: Tensor) =>
      p.a.matmul(w.cast("f32")).mul(frozen.cast("f32").sum()).sum();
    using step = jit(valueAndGrad(loss));
    const { value, grads } = step({ a: ones([1, 2]) }, frozen);
    assertEquals(await value.item(), 100);
    assertEquals(await grads.a.toArray(), [[30, 70]]);
    await checkGrads((p, w) => p.a.matmul(w.cast("f32")).sin(), [{
      a: ones([1, 2]),
    }, frozen]);
    const none = grad((x) => x.cast("f16").cast("f32").mul(3).sum());
    assertEquals(await none(ones([2])).toArray(), [0, 0]);
  },
);

eachBackend("a program is traced for each dtype", async () => {
  let traces = 0;
  using f = jit((x: Tensor) => {
    traces++;
    return x.cast("f32").mul(2);
  });
  for (const dtype of ["f32", "f16", "bf16", "f16", "f32"] as const) {
    assertEquals(await f(tensor([3], { dtype })).toArray(), [6]);
  }
  assertEquals(traces, 3);
});

eachBackend(
  "a donated half is updated in place, and never as f32",
  async () => {
    using same = jit((x: Tensor) => x.cast("f32").add(1).cast("bf16"), {
      donate: [0],
    });
    assert(String(same.program(bf16(9))).includes("1 in place"));
    assertEquals(await same(bf16(5)).toArray(), [1, 1, 1, 1, 1]);
    using wider = jit((x: Tensor) => x.cast("f32").add(1), { donate: [0] });
    assert(String(wider.program(bf16(9))).includes("0 in place"));
    assertEquals(await wider(bf16(5)).toArray(), [1, 1, 1, 1, 1]);
  },
);

eachBackend("vmap and checkpoint take halves", async () => {
  const w = tensor([[1, 2], [3, 4], [5, 6]], { dtype: "f16" });
  const x = tensor([[1, 0], [0, 1], [1, 1]]);
  const dot = (w: Tensor, x: Tensor) => w.cast("f32").mul(x).sum();
  assertEquals(await vmap(dot)(w, x).toArray(), [1, 4, 11]);
  const slope = grad((x, w) => checkpoint(dot)(w, x).square());
  assertEquals(await slope(ones([3, 2]), w).toArray(), [
    [42, 84],
    [126, 168],
    [210, 252],
  ]);
});

eachBackend("a loop over halves reads each where it is", async () => {
  const table = Uint16Array.from({ length: 300 }, (_, i) => 0x3f80 + 7 * i);
  const layers = tensor(table, {
    shape: [3, 10, 10],
    dtype: "bf16",
  });
  const shift = tensor([1, 2], { dtype: "bf16" });
  const run = (x: Tensor, layers: Tensor, shift: Tensor) =>
    scan(
      (carry: { x: Tensor; last: Tensor }, w: Tensor) => {
        const by = shift.cast("f32").sum();
        const x = carry.x.matmul(w.cast("f32")).mul(1e-3).add(by);
        return { carry: { x, last: w }, y: x.cast("bf16") };
      },
      { x, last: bf16(10, 10) },
      layers,
    );
  const x = ones([1, 10]);
  using f = jit(run);
  const { carry, ys } = f(x, layers, shift);
  let expected = x;
  const rows: Tensor[] = [];
  for (const [i] of [0, 1, 2].entries()) {
    const w = layers.slice([[i, i + 1]]).reshape([10, 10]).cast("f32");
    expected = expected.matmul(w).mul(1e-3).add(3);
    rows.push(expected.cast("bf16").reshape([1, 1, 10]));
  }
  await assertClose(carry.x, expected, { terms: 10 });
  await assertClose(ys, concat(rows), { rtol: 2 ** -7 });
  assertEquals(await carry.last.bits(), table.subarray(200, 300));
});
