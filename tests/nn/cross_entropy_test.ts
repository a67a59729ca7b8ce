import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { grad, jit, ShapeError, type Tensor, tensor, zeros } from "cotan";
import fc from "fast-check";
import {
  crossEntropy,
  type CrossEntropyOptions,
  headCrossEntropy,
} from "cotan/nn";
import { eachBackend, withThreads } from "../support/backends.ts";
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

const V = 4099, D = 3;

/** Options and labels that a loss of a head must take as one of its logits does. */
const forms: readonly [CrossEntropyOptions, number[]][] = [
  [{}, [4098, 0, 7, -100]],
  [{ reduction: "sum", ignoreIndex: 7 }, [4098, 0, 7, 7]],
  [{ labelSmoothing: 0.3 }, [5, -100, 4097, 1]],
  [{ reduction: "none", labelSmoothing: 0.1 }, [5, -100, 4097, 1]],
  [{}, [-100, -100, -100, -100]],
  // No such classes: the loss is log Σ exp.
  [{ reduction: "none" }, [V, -1, 3, 2 ** 31 - 1]],
];

type Head = { readonly h: Tensor; readonly w: Tensor; readonly b?: Tensor };
type HeadLoss = (p: Head, labels: Tensor, o: CrossEntropyOptions) => Tensor;

const withLogits: HeadLoss = ({ h, w }, labels, options) =>
  crossEntropy(h.matmul(w.transpose()).add(0), labels, options);
const ofProduct: HeadLoss = ({ h, w }, labels, options) =>
  crossEntropy(
    h.matmul(w.transpose()).reshape([-1, V]).reshape([2, 2, V]),
    labels,
    options,
  );
const direct: HeadLoss = ({ h, w }, labels, options) =>
  headCrossEntropy(h, w, labels, options);

eachBackend(
  "a loss of a head is that of its logits, with both gradients",
  async () => {
    const head = { h: varied([2, 2, D]), w: varied([V, D], 2) };
    for (const [options, list] of forms) {
      const labels = labelsOf(list).reshape([2, 2]);
      const all = (f: HeadLoss) => {
        const loss = (p: Head) => f(p, labels, options);
        const step = jit((p: Head) => {
          const sum = (p: Head) => loss(p).sum();
          return [
            loss(p),
            grad((h: Tensor) => sum({ h, w: p.w }))(p.h),
            grad(sum)(p).w,
          ];
        });
        return step(head);
      };
      const expected = all(withLogits);
      for (const f of [ofProduct, direct]) {
        for (const [i, x] of all(f).entries()) {
          await assertClose(x, await expected[i]!.data(), {
            shape: expected[i]!.shape,
            within: 5e-6,
          });
        }
      }
    }
  },
  withThreads,
);

eachBackend(
  "a loss of a head with a bias is that of its logits, with all gradients",
  async () => {
    const head = {
      h: varied([2, 2, D]),
      w: varied([V, D], 2),
      b: varied([V], 3),
    };
    for (const [options, list] of forms) {
      const labels = labelsOf(list);
      const slopes = (last: (logits: Tensor) => Tensor) =>
        jit((p: Required<Head>) =>
          grad(({ h, w, b }: Required<Head>) => {
            const logits = h.matmul(w.transpose()).add(b).reshape([-1, V]);
            return crossEntropy(last(logits), labels, options).sum();
          })(p)
        )(head);
      const expected = slopes((logits) => logits.add(0));
      const found = slopes((logits) => logits);
      for (const name of ["h", "w", "b"] as const) {
        await assertClose(found[name], await expected[name].data(), {
          shape: expected[name].shape,
          within: 5e-6,
        });
      }
    }
  },
  withThreads,
);

eachBackend("a head of halves has the loss of its numbers", async () => {
  const h = varied([4, D]), w = varied([V, D], 2).cast("bf16");
  const labels = labelsOf([1, 2, 3, 4098]);
  const wide = { h, w: w.cast("f32") };
  const expected = await withLogits(wide, labels, {}).item();
  const loss = await headCrossEntropy(h, w, labels).item();
  assertAlmostEquals(loss, expected, 1e-5);
  const traced = jit((h: Tensor, w: Tensor) =>
    crossEntropy(h.matmul(w.cast("f32").transpose()), labels)
  );
  assertAlmostEquals(await traced(h, w).item(), expected, 1e-5);
});

eachBackend("logits of many classes are not stored, of few they are", () => {
  const kindsOf = (V: number) => {
    using step = jit((h: Tensor, w: Tensor, labels: Tensor) =>
      grad((h: Tensor) => crossEntropy(h.matmul(w.transpose()), labels))(h)
    );
    const { kernels } = step.program(
      zeros([4, D]),
      zeros([V, D]),
      labelsOf([0, 1, 2, 3]),
    );
    return kernels.map(({ kind }) => kind);
  };
  assertEquals(kindsOf(4096).filter((k) => k !== "map" && k !== "reduce"), [
    "fused",
  ]);
  assertEquals(kindsOf(4095).includes("fused"), false);
}, ["wasm"]);

Deno.test("a head that does not fit is refused", () => {
  const labels = labelsOf([0, 1]);
  assertThrows(
    () => headCrossEntropy(zeros([2, 3]), zeros([5, 4]), labels),
    ShapeError,
    "Cannot take headCrossEntropy of f32[2, 3] and a head of weight f32[5, 4]: the last axes must be the same",
  );
  assertThrows(
    () => headCrossEntropy(zeros([3, 4]), zeros([5, 4]), labels),
    ShapeError,
    "Cannot take headCrossEntropy of f32[3, 5] and i32[2]: labels must have the shape of logits but for the last axis",
  );
});
