import { assertEquals, assertThrows } from "@std/assert";
import { grad, memory, ShapeError, tensor, zeros } from "cotan";
import { embedding, linear } from "cotan/nn";
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
