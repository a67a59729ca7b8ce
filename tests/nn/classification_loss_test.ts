import { assertEquals } from "@std/assert";
import { DTypeError, ShapeError, tensor } from "cotan";
import {
  binaryCrossEntropy,
  classificationLoss,
  crossEntropy,
  meanSquaredError,
} from "cotan/nn";
import { f32, i32, throws } from "../support/throws.ts";
import { assertClose, useOracle, varied } from "./support.ts";

Deno.test.beforeAll(useOracle);

Deno.test("the loss is seen from the number of labels and their dtype, as in transformers", async () => {
  const logits = varied([4, 3]);
  const classes = tensor(Int32Array.of(0, 2, -100, 1));
  const some = varied([4, 3], 2).gt(0).cast("f32");
  assertEquals(
    await classificationLoss(logits, classes).item(),
    await crossEntropy(logits, classes).item(),
  );
  assertEquals(
    await classificationLoss(logits, some).item(),
    await binaryCrossEntropy(logits, some).item(),
  );
  const numbers = varied([4, 1]);
  for (const shape of [[4], [4, 1]]) {
    assertEquals(
      await classificationLoss(numbers, varied(shape, 3)).item(),
      await meanSquaredError(numbers, varied([4, 1], 3)).item(),
    );
  }
});

Deno.test("a problem that is given decides", async () => {
  const logits = varied([4, 3]), labels = varied([4, 3], 2);
  const regression = classificationLoss(logits, labels, {
    problem: "regression",
  });
  const squares = await meanSquaredError(logits, labels).data();
  await assertClose(regression, squares);
  const one = varied([4, 1]), yes = varied([4, 1], 2).gt(0).cast("f32");
  const multi = classificationLoss(one, yes, {
    problem: "multi_label_classification",
  });
  await assertClose(multi, await binaryCrossEntropy(one, yes).data());
  const single = classificationLoss(one, i32(4), {
    problem: "single_label_classification",
  });
  await assertClose(single, [0]);
  const asAbsent = classificationLoss(logits, i32(4), { problem: null });
  await assertClose(asAbsent, await crossEntropy(logits, i32(4)).data());
});

Deno.test("labels of tokens are of all axes but the last", async () => {
  const logits = varied([2, 3, 4]);
  const labels = tensor(Int32Array.of(0, 1, -100, 3, 2, -100), {
    shape: [2, 3],
  });
  const flat = crossEntropy(logits.reshape([6, 4]), labels.reshape([6]));
  await assertClose(classificationLoss(logits, labels), await flat.data());
});

throws("labels that do not fit the problem are errors", ShapeError, [
  [
    () => classificationLoss(f32(2, 3), i32(3)),
    "Cannot take crossEntropy of f32[2, 3] and i32[3]: labels must have the shape of logits but for the last axis",
  ],
  [
    () => classificationLoss(f32(2, 3), f32(2)),
    "Cannot take binaryCrossEntropy of f32[2, 3] and f32[2]: the shapes differ",
  ],
  [
    () => classificationLoss(f32(2, 1), f32(3)),
    "Cannot take meanSquaredError of f32[2] and f32[3]: the shapes differ",
  ],
]);

throws(
  "labels of a dtype that does not fit the problem are errors",
  DTypeError,
  [
    [
      () =>
        classificationLoss(f32(2, 3), f32(2), {
          problem: "single_label_classification",
        }),
      "Cannot take crossEntropy of f32[2, 3] and f32[2]: labels are i32; use cast",
    ],
    [
      () => classificationLoss(f32(2, 1), i32(2)),
      "Cannot take meanSquaredError of f32[2] and i32[2]: labels must be f32; use cast",
    ],
  ],
);
