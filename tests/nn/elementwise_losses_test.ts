import { assert, assertEquals } from "@std/assert";
import { DTypeError, grad, ShapeError, type Tensor, tensor } from "cotan";
import { binaryCrossEntropy, meanSquaredError } from "cotan/nn";
import { checkGrads } from "cotan/testing";
import { eachBackend } from "../support/backends.ts";
import { f32, i32, throws } from "../support/throws.ts";
import { assertClose, useOracle, values, varied } from "./support.ts";

Deno.test.beforeAll(useOracle);

const x = values(6), y = values(6, 2).map((v) => (1 + v) / 2);
const logits = () => tensor(x, { shape: [2, 3] });
const labels = () => tensor(y, { shape: [2, 3] });
const sum = (list: Iterable<number>) => [...list].reduce((a, b) => a + b, 0);

Deno.test("losses of elements are those of their formulas, as a mean, a sum or each", async () => {
  const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
  const formulas = [
    [meanSquaredError, x.map((v, i) => (v - y[i]!) ** 2)],
    [
      binaryCrossEntropy,
      x.map((v, i) =>
        -y[i]! * Math.log(sigmoid(v)) -
        (1 - y[i]!) * Math.log(1 - sigmoid(v))
      ),
    ],
  ] as const;
  for (const [loss, each] of formulas) {
    const none = loss(logits(), labels(), { reduction: "none" });
    await assertClose(none, each, { shape: [2, 3] });
    await assertClose(loss(logits(), labels()), [sum(each) / 6], { shape: [] });
    const total = loss(logits(), labels(), { reduction: "sum" });
    await assertClose(total, [sum(each)]);
  }
});

eachBackend(
  "binary cross entropy is finite for large logits, and so is its gradient",
  async () => {
    const large = tensor([1000, -1000, 1000, -1000, 0]);
    const labels = tensor([1, 0, 0, 1, 0.5]);
    const each = binaryCrossEntropy(large, labels, { reduction: "none" });
    const found = await each.data();
    assertEquals(Array.from(found.subarray(0, 4)), [0, 0, 1000, 1000]);
    assert(Math.abs(found[4]! - Math.log(2)) < 1e-6);
    const slope = grad((x: Tensor) =>
      binaryCrossEntropy(x, labels, { reduction: "sum" })
    )(large);
    assertEquals(await slope.toArray(), [0, 0, 1, -1, 0]);
  },
);

Deno.test("gradients of losses of elements are those of finite differences", async () => {
  await checkGrads(
    (a: Tensor, b: Tensor) =>
      binaryCrossEntropy(a, b).add(meanSquaredError(a, b)),
    [varied([2, 3]), varied([2, 3], 2)],
  );
});

throws("shapes that differ are errors", ShapeError, [
  [
    () => meanSquaredError(f32(2, 1), f32(2)),
    "Cannot take meanSquaredError of f32[2, 1] and f32[2]: the shapes differ",
  ],
  [
    () => binaryCrossEntropy(f32(2, 3), f32(2, 4)),
    "Cannot take binaryCrossEntropy of f32[2, 3] and f32[2, 4]: the shapes differ",
  ],
]);

throws("labels of another dtype are errors", DTypeError, [
  [
    () => binaryCrossEntropy(f32(2, 3), i32(2, 3)),
    "Cannot take binaryCrossEntropy of f32[2, 3] and i32[2, 3]: labels must be f32; use cast",
  ],
]);
