/**
 * Tests of the logarithm of the sum of exponentials of scores that are never stored.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  type DType,
  DTypeError,
  jit,
  scoresLogSumExp,
  scoresTotal,
  ShapeError,
  type Tensor,
  tensor,
} from "cotan";
import { createRuntime, withRuntime } from "../../core/context.ts";
import { createWasmBackend } from "../../core/cpu/wasm.ts";
import { assertClose } from "../support/allclose.ts";
import { hasBlas } from "./cpu/support.ts";
import { eachBackend, withThreads } from "../support/backends.ts";
import { check } from "../support/runs.ts";
import { f32, i32, throws } from "../support/throws.ts";
import {
  all,
  type Head,
  headOf,
  type LogSumExp,
  plain,
  type Sizes,
} from "./scores_support.ts";

async function assertAlike(head: Head): Promise<void> {
  const [N, D] = head.x.shape as [number, number];
  const expected = all(plain, head);
  for (const [i, result] of all(scoresLogSumExp, head).entries()) {
    const bound = { terms: 4 * D * Math.max(1, N), atol: 2e-6 };
    await assertClose(result, expected[i]!, bound);
  }
}

const extents = (...list: number[]) => fc.constantFrom(...list);

eachBackend(
  "sums and both gradients are those of the scores, whatever the sizes",
  async () => {
    const sizes = fc.tuple(
      extents(0, 1, 2, 7, 8, 9, 33, 64, 129),
      extents(1, 3, 8, 16, 97),
      extents(1, 2, 6, 119, 121, 500),
    );
    const dtypes = fc.constantFrom<DType>("f32", "f32", "bf16", "f16");
    await check(
      fc.asyncProperty(
        sizes,
        dtypes,
        fc.boolean(),
        (sizes, dtype, isBiased) => assertAlike(headOf(sizes, dtype, isBiased)),
      ),
      12,
      // More examples than one group, by a table of more than one piece; and fewer examples than their size.
      [[[300, 8, 2000], "f32", true], [[5, 40, 2000], "f32", true]],
    );
  },
  withThreads,
);

eachBackend("operands may lie in any order", async () => {
  const { x, table, ct } = headOf([6, 10, 14]);
  const turned = jit((x: Tensor, table: Tensor) =>
    all(scoresLogSumExp, {
      x: x.transpose().slice([[0, 12, 2]]),
      table: table.transpose().flip(0),
      ct,
    })
  );
  const wide = x.reshape([6, 1, 10]).expand([6, 2, 10]).reshape([12, 10]);
  const expected = all(plain, { x, table, ct });
  const mirrored = table.flip(0).transpose();
  for (const [i, y] of turned(wide.transpose(), mirrored).entries()) {
    await assertClose(y, expected[i]!, { terms: 14 });
  }
}, withThreads);

eachBackend("infinite, huge and missing scores are as they are", async () => {
  const one = tensor([[1]]), huge = 3e38;
  const cases: [number[], number][] = [
    [[-Infinity, 2], 2],
    [[-Infinity, -Infinity], -Infinity],
    [[Infinity, 1], Infinity],
    [[NaN, 1], NaN],
    [[huge, -huge], huge],
    [[-huge, -huge], -huge],
    [[1000, 1000], 1000 + Math.log(2)],
  ];
  for (const [column, sum] of cases) {
    const table = tensor(column.map((v) => [v]));
    await assertClose(scoresLogSumExp(one, table), [sum]);
    await assertClose(scoresTotal(one, table, tensor([1])), [sum]);
    await assertClose(scoresTotal(one, table, tensor([0])), [0]);
  }
}, withThreads);

Deno.test({
  name: "a BLAS gives the same sums and gradients",
  ignore: !hasBlas,
  async fn() {
    const backend = createWasmBackend({
      threads: 2,
      eager: true,
      blas: "auto",
    });
    const runtime = createRuntime(backend);
    // The last two have several groups of examples, and pieces of several blocks.
    const sizes: Sizes[] = [
      [1, 3, 7],
      [9, 16, 121],
      [300, 8, 2000],
      [3, 8, 20_000],
    ];
    for (const size of sizes) {
      for (const dtype of ["f32", "bf16"] as const) {
        const run = (f: LogSumExp) =>
          withRuntime(runtime, () => all(f, headOf(size, dtype, true)));
        const expected = run(plain);
        for (const [i, result] of run(scoresLogSumExp).entries()) {
          const bound = { terms: 4 * size[1] * size[0], atol: 2e-6 };
          await assertClose(result, expected[i]!, bound);
        }
      }
    }
    backend.dispose();
  },
});

Deno.test("an engine without fused multiply-add has the same sums", async () => {
  const backend = createWasmBackend({ relaxed: false, threads: 1 });
  const run = (f: LogSumExp) =>
    withRuntime(
      createRuntime(backend),
      () => all(f, headOf([9, 20, 700])),
    );
  const expected = run(plain);
  for (const [i, y] of run(scoresLogSumExp).entries()) {
    await assertClose(y, await expected[i]!.data(), { terms: 100 });
  }
});

Deno.test("any number of threads gives the same bits", async () => {
  const results = await Promise.all([1, 2, 3].map((threads) => {
    const backend = createWasmBackend({ threads, eager: true });
    return withRuntime(
      createRuntime(backend),
      () =>
        Promise.all(
          ([[20, 40, 3000], [200, 16, 700]] as const)
            .flatMap((sizes) =>
              all(scoresLogSumExp, headOf(sizes, "f32", true))
            )
            .map((x) => x.data()),
        ),
    );
  }));
  assertEquals(results[1], results[0]);
  assertEquals(results[2], results[0]);
});

throws("a head of other axes is refused", ShapeError, [[
  () => scoresLogSumExp(f32(2, 3), f32(4, 5)),
  "Cannot take scoresLogSumExp of f32[2, 3] and f32[4, 5]: they must be [N, D] and [V, D]",
]]);

throws("a bias of other rows is refused", ShapeError, [[
  () => scoresLogSumExp(f32(2, 3), f32(4, 3), f32(2)),
  "Cannot take scoresLogSumExp of f32[2, 3] and f32[4, 3] with bias f32[2]: it must be f32[4]",
]]);

throws("weights of other examples are refused", ShapeError, [[
  () => scoresTotal(f32(2, 3), f32(4, 3), f32(3)),
  "Cannot take scoresTotal of f32[2, 3] with weights f32[3]: they must be f32[2]",
]]);

throws("a head of other dtypes is refused", DTypeError, [[
  () => scoresLogSumExp(i32(2, 3), f32(4, 3)),
  "Cannot take scoresLogSumExp of i32[2, 3] and f32[4, 3]: x is f32, the table f32 or halves",
]]);
