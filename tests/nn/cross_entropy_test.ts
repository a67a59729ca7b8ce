import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { grad, ShapeError, type Tensor, tensor, zeros } from "cotan";
import fc from "fast-check";
import { crossEntropy } from "cotan/nn";
import { assertClose, useOracle, values, varied } from "./support.ts";

Deno.test.beforeAll(useOracle);

const C = 4;
const labelsOf = (list: readonly number[]): Tensor =>
  tensor(Int32Array.from(list));

/** Losses by the definition: the target is 1 - ε on the label and ε / C everywhere. */
function naive(labels: readonly number[], smoothing: number): number[] {
  const logits = values(labels.length * C);
  return labels.map((label, n) => {
    if (label === -100) return 0;
    const row = logits.subarray(n * C, n * C + C);
    const total = Math.log(row.reduce((sum, v) => sum + Math.exp(v), 0));
    return row.reduce((loss, v, c) => {
      const target = smoothing / C + (c === label ? 1 - smoothing : 0);
      return loss + target * (total - v);
    }, 0);
  });
}

Deno.test("crossEntropy equals its definition for every reduction and smoothing", async () => {
  const labels = fc.array(fc.constantFrom(-100, 0, 1, 2, 3), {
    minLength: 1,
    maxLength: 6,
  });
  const smoothing = fc.constantFrom(0, 0.1, 1);
  await fc.assert(
    fc.asyncProperty(labels, smoothing, async (list, labelSmoothing) => {
      const logits = varied([list.length, C]), labels = labelsOf(list);
      const losses = naive(list, labelSmoothing);
      const sum = losses.reduce((a, b) => a + b, 0);
      const count = list.filter((label) => label !== -100).length;
      const take = (reduction: "none" | "sum" | "mean") =>
        crossEntropy(logits, labels, { labelSmoothing, reduction });
      await assertClose(take("none"), losses);
      await assertClose(take("sum"), [sum], { shape: [] });
      await assertClose(take("mean"), [sum / Math.max(count, 1)]);
    }),
    { numRuns: 40 },
  );
});

Deno.test("its gradient is (softmax - one-hot) / count, and 0 for ignored examples", async () => {
  const logits = varied([3, C]), labels = labelsOf([2, -100, 0]);
  const g = await grad((x) => crossEntropy(x, labels))(logits).toArray();
  const soft = await logits.softmax().toArray() as number[][];
  for (const [n, label] of [[0, 2], [2, 0]] as const) {
    for (let c = 0; c < C; c++) {
      const expected = (soft[n]![c]! - (c === label ? 1 : 0)) / 2;
      assertAlmostEquals((g as number[][])[n]![c]!, expected, 1e-12);
    }
  }
  assertEquals((g as number[][])[1], [0, 0, 0, 0]);
});

Deno.test("when every label is ignored the mean is 0 and so is the gradient", async () => {
  const labels = labelsOf([-100, -100]);
  const loss = (x: Tensor) => crossEntropy(x, labels);
  assertEquals(await loss(varied([2, C])).item(), 0);
  const g = await grad(loss)(varied([2, C])).data();
  assertEquals([...g], new Array(8).fill(0));
});

Deno.test("another ignoreIndex replaces -100", async () => {
  const labels = labelsOf([0, 1]), logits = varied([2, C]);
  const loss = crossEntropy(logits, labels, { ignoreIndex: 0 });
  const losses = await crossEntropy(logits, labels, { reduction: "none" })
    .data();
  await assertClose(loss, [losses[1]!]);
});

Deno.test("logits of hundreds neither overflow nor lose the loss", async () => {
  const loss = crossEntropy(tensor([[900, -900]]), labelsOf([1]));
  assertEquals(await loss.item(), 1800);
});

Deno.test("logits may have more leading axes, with labels alike", async () => {
  const labels = labelsOf([1, 2, 0, -100]);
  const flat = crossEntropy(varied([4, C]), labels);
  const deep = crossEntropy(varied([2, 2, C]), labels.reshape([2, 2]));
  await assertClose(deep, await flat.data());
});

Deno.test("labels of another shape or dtype are errors, and so is a smoothing above 1", () => {
  assertThrows(
    () => crossEntropy(zeros([2, C]), labelsOf([1])),
    ShapeError,
    "Cannot take crossEntropy of f32[2, 4] and i32[1]: labels must have the shape of logits but for the last axis",
  );
  assertThrows(
    () => crossEntropy(zeros([1, C]), zeros([1])),
    TypeError,
    "Cannot take crossEntropy of f32[1, 4] and f32[1]: labels are i32; use cast",
  );
  assertThrows(
    () => crossEntropy(zeros([1, C]), labelsOf([1]), { labelSmoothing: 2 }),
    RangeError,
    "Cannot take crossEntropy with labelSmoothing 2: it must be from 0 to 1",
  );
});
