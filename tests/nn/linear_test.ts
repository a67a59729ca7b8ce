import { assertEquals, assertThrows } from "@std/assert";
import {
  concat,
  grad,
  memory,
  ShapeError,
  type Tensor,
  tensor,
  zeros,
} from "cotan";
import { conv1D, embedding, linear, type Lora } from "cotan/nn";
import { assertClose, ids, useOracle, values, varied } from "./support.ts";

Deno.test.beforeAll(useOracle);

Deno.test("a linear layer multiplies by the transposed weight and adds the bias", async () => {
  const x = varied([2, 3, 4], 1), weight = varied([5, 4], 2);
  const bias = varied([5], 3);
  const [X, W, b] = [values(24, 1), values(20, 2), values(5, 3)];
  const expected = Array.from({ length: 30 }, (_, i) => {
    const row = Math.floor(i / 5), out = i % 5;
    let sum = b[out]!;
    for (let k = 0; k < 4; k++) sum += X[row * 4 + k]! * W[out * 4 + k]!;
    return sum;
  });
  await assertClose(linear({ weight, bias }, x), expected, {
    shape: [2, 3, 5],
  });
});

Deno.test("a bias may be absent or null, and x a vector", async () => {
  const weight = tensor([[1, 2], [3, 4]]);
  const x = tensor([1, 1]);
  await assertClose(linear({ weight }, x), [3, 7], { shape: [2] });
  await assertClose(linear({ weight, bias: null }, x), [3, 7]);
});

Deno.test("an adapter adds scale · b a to the weight", async () => {
  const weight = varied([3, 4], 1), x = varied([5, 4], 2);
  const a = varied([2, 4], 3), b = varied([3, 2], 4), scale = tensor(0.5);
  const merged = weight.add(b.matmul(a).mul(scale));
  const expected = await linear({ weight: merged }, x).data();
  await assertClose(linear({ weight, lora: { a, b, scale } }, x), expected);
});

Deno.test("an adapter with b = 0 changes no bit", async () => {
  const weight = varied([3, 4], 1), bias = varied([3], 5);
  const x = varied([5, 4], 2);
  const lora = { a: varied([2, 4], 3), b: zeros([3, 2]), scale: tensor(2) };
  assertEquals(
    await linear({ weight, bias, lora }, x).data(),
    await linear({ weight, bias }, x).data(),
  );
});

Deno.test("Conv1D is the linear layer with its weight transposed", async () => {
  const weight = varied([3, 4], 1), bias = varied([3], 5);
  const x = varied([5, 4], 2);
  const lora = { a: varied([2, 4], 3), b: varied([3, 2], 4), scale: tensor(2) };
  const expected = await linear({ weight, bias, lora }, x).data();
  const p = { weight: weight.transpose(), bias, lora };
  await assertClose(conv1D(p, x), expected, { shape: [5, 3] });
  assertThrows(
    () => conv1D({ weight: zeros([7, 16]) }, zeros([4, 8])),
    ShapeError,
    "Cannot apply a Conv1D layer of weight f32[7, 16] to f32[4, 8]: the last axis must be 7",
  );
});

/** An adapter of rank 3 from 4 features. */
function adapter(out: number, seed: number): Lora {
  return {
    a: varied([3, 4], seed),
    b: varied([out, 3], seed + 1),
    scale: tensor(0.5),
  };
}

Deno.test("adapters of slices change their parts of the output alone", async () => {
  const weight = varied([6, 4], 1), x = varied([2, 5, 4], 2);
  const [first, last] = [adapter(2, 3), adapter(2, 5)];
  const parts = [[0, 2], [2, 4], [4, 6]].map(([from, to]) =>
    weight.slice([[from!, to!]])
  );
  const expected = [first, null, last].map((lora, i) =>
    linear(lora ? { weight: parts[i]!, lora } : { weight: parts[i]! }, x)
  );
  const y = linear({ weight, lora: [first, null, last] }, x);
  await assertClose(y, await concat(expected, { axis: -1 }).data());
});

Deno.test("several adapters by name add up", async () => {
  const weight = varied([6, 4], 1), x = varied([5, 4], 2);
  const [one, two] = [adapter(6, 3), [null, adapter(3, 5)]];
  const base = linear({ weight }, x);
  const sum = linear({ weight, lora: one }, x).sub(base)
    .add(linear({ weight, lora: two }, x));
  const y = linear({ weight, lora: { one, two } }, x);
  await assertClose(y, await sum.data());
});

Deno.test("a rank in use cuts an adapter, and ranks before `from` do not learn", async () => {
  const weight = varied([6, 4], 1), x = varied([5, 4], 2);
  const whole = adapter(6, 3);
  const at = (rank: number, from: number) => ({
    ...whole,
    rank: tensor(rank, { dtype: "i32" }),
    from: tensor(from, { dtype: "i32" }),
  });
  const cut = {
    a: whole.a.slice([[0, 2]]),
    b: whole.b.slice([null, [0, 2]]),
    scale: whole.scale,
  };
  const expected = linear({ weight, lora: cut }, x);
  await assertClose(
    linear({ weight, lora: at(2, 1) }, x),
    await expected.data(),
  );
  const gradients = (from: number) =>
    grad(({ a, b }: Pick<Lora, "a" | "b">) =>
      linear({ weight, lora: { ...at(2, from), a, b } }, x).square().sum()
    )({ a: whole.a, b: whole.b });
  const all = gradients(0), last = gradients(1);
  const row = [null, [1, 2]] as const;
  await assertClose(
    last.a.slice([[1, 2]]),
    await all.a.slice([[1, 2]]).data(),
  );
  await assertClose(last.b.slice(row), await all.b.slice(row).data());
  const kept = (g: Tensor) => g.abs().sum().item();
  const row1 = await kept(all.a.slice([[1, 2]])),
    b1 = await kept(all.b.slice(row));
  await assertClose(last.a.abs().sum(), [row1]);
  await assertClose(last.b.abs().sum(), [b1]);
});

Deno.test("gradients of an adapter are dB = s Gᵀu and dA = s (G B)ᵀ x", async () => {
  const weight = varied([3, 4], 1), x = varied([5, 4], 2);
  const scale = tensor(0.5), g = varied([5, 3], 6);
  const ab = { a: varied([2, 4], 3), b: varied([3, 2], 4) };
  const loss = (p: typeof ab) =>
    linear({ weight, lora: { ...p, scale } }, x).mul(g).sum();
  const { a, b } = grad(loss)(ab);
  const u = x.matmul(ab.a.transpose());
  await assertClose(b, await g.transpose().matmul(u).mul(0.5).data());
  const gb = g.matmul(ab.b);
  await assertClose(a, await gb.transpose().matmul(x).mul(0.5).data());
});

Deno.test("a linear layer says which size the last axis must have", () => {
  assertThrows(
    () => linear({ weight: zeros([16, 7]) }, zeros([4, 8])),
    ShapeError,
    "Cannot apply a linear layer of weight f32[16, 7] to f32[4, 8]: the last axis must be 7",
  );
});

Deno.test("an embedding picks rows, and its gradient adds up repeated ids", async () => {
  const table = varied([4, 3], 1), rows = values(12, 1);
  const index = ids([[3, 0], [3, 3]]);
  const expected = [3, 0, 3, 3].flatMap((id) => [
    ...rows.subarray(id * 3, id * 3 + 3),
  ]);
  await assertClose(embedding({ weight: table }, index), expected, {
    shape: [2, 2, 3],
  });
  const g = grad((weight) => embedding({ weight }, index).sum())(table);
  await assertClose(g, [1, 1, 1, 0, 0, 0, 0, 0, 0, 3, 3, 3]);
});

Deno.test("an adapter of an embedding changes its table by scale · (b a)ᵀ", async () => {
  const weight = varied([4, 3], 1), index = ids([[3, 0]]);
  const a = varied([2, 4], 2), b = varied([3, 2], 3), scale = tensor(0.5);
  const merged = weight.add(b.matmul(a).transpose().mul(scale));
  const expected = await embedding({ weight: merged }, index).data();
  await assertClose(
    embedding({ weight, lora: { a, b, scale } }, index),
    expected,
  );
});

Deno.test("an embedding refuses ids that are no integers, and says so", () => {
  assertThrows(
    () => embedding({ weight: zeros([4, 3]) }, zeros([2])),
    TypeError,
    "Cannot embed f32[2]: ids are i32; use cast",
  );
});

Deno.test("layers outside jit leave nothing behind but their result", () => {
  const weight = varied([3, 4]), x = varied([5, 4]);
  const lora = { a: varied([2, 4]), b: varied([3, 2]), scale: tensor(2) };
  const before = memory().tensors;
  linear({ weight, bias: null, lora }, x).dispose();
  assertEquals(memory().tensors, before);
});
