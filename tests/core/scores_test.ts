/**
 * Tests of the logarithm of the sum of exponentials of scores that are never stored.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  checkpoint,
  type DType,
  DTypeError,
  factorsOf,
  grad,
  jit,
  jvp,
  scan,
  scoresLogSumExp,
  scoresTotal,
  ShapeError,
  type Tensor,
  tensor,
  type Tree,
  valueAndGrad,
  vmap,
  zeros,
} from "cotan";
import type { Limits } from "../../core/backend.ts";
import { createRuntime, withRuntime } from "../../core/context.ts";
import { WORTH_KEEPING } from "../../core/cpu/packs.ts";
import { ProgramCompiler } from "../../core/cpu/program.ts";
import { createWasmBackend } from "../../core/cpu/wasm.ts";
import type { FusedKind } from "../../core/fused_spec.ts";
import type { Plan } from "../../core/plan/kernel.ts";
import { assertClose } from "../support/allclose.ts";
import { hasBlas } from "./cpu/support.ts";
import { eachBackend, withThreads } from "../support/backends.ts";
import { checkPlan } from "../support/plan_checks.ts";
import { createPlanBackend } from "../support/plan_interpreter.ts";
import { upload } from "../support/primitives.ts";
import { check } from "../support/runs.ts";
import { f32, i32, throws } from "../support/throws.ts";
import { between, fill } from "../support/values.ts";

/** A head of some sizes: examples, a table, and a cotangent for each example. */
type Head = {
  readonly x: Tensor;
  readonly table: Tensor;
  readonly ct: Tensor;
  readonly bias?: Tensor;
};

type Sizes = readonly [N: number, D: number, V: number];

function headOf(
  [N, D, V]: Sizes,
  dtype: DType = "f32",
  isBiased = false,
): Head {
  const part = (shape: number[], seed: number) =>
    upload(fill(shape, "f32", seed, between(-2, 2)));
  return {
    x: part([N, D], 1),
    table: part([V, D], 2).cast(dtype),
    ct: part([N], 3),
    ...isBiased && { bias: part([V], 4) },
  };
}

/** The definition, with the scores. */
function plain(x: Tensor, table: Tensor, bias?: Tensor | null): Tensor {
  const scores = x.matmul(table.cast("f32").transpose());
  return (bias ? scores.add(bias) : scores).logSumExp({ axis: -1 });
}

type LogSumExp = (x: Tensor, table: Tensor, bias?: Tensor | null) => Tensor;

/** The value and gradients, and those of sums whose weights are known before. */
function all(f: LogSumExp, { x, table, ct, bias }: Head): Tensor[] {
  const loss: LogSumExp = (...head) => f(...head).mul(ct).sum();
  const total: LogSumExp = (x, table, bias) =>
    f === plain ? loss(x, table, bias) : scoresTotal(x, table, ct, bias);
  return [
    f(x, table, bias),
    ...slopesOf(loss, x, table, bias),
    ...slopesOf(total, x, table, bias),
  ];
}

/** A value, its gradients of x and of the bias alone, and those of all. */
function slopesOf(
  loss: LogSumExp,
  x: Tensor,
  table: Tensor,
  bias?: Tensor,
): Tensor[] {
  const trained = {
    x,
    ...table.dtype === "f32" && { table },
    ...bias && { bias },
  };
  const slopes = grad((p: typeof trained) => {
    return loss(p.x, p.table ?? table, p.bias);
  })(trained);
  return [
    loss(x, table, bias),
    grad((x: Tensor) => loss(x, table, bias))(x),
    ...bias ? [grad((b: Tensor) => loss(x, table, b))(bias)] : [],
    ...Object.values(slopes),
  ];
}

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

const LIMITS: Limits = {
  buffersPerKernel: 8,
  buffersPerLaunch: 64,
  bytesPerBuffer: 1 << 28,
  bytesPerBinding: 1 << 28,
  alignment: 16,
  fused: new Set<FusedKind>(["headLoss"]),
};

/** Runs `f` where plans run as their definition says, in float64; gives the plans, and what `f` gives. */
function planned<R>(f: () => R, limits = LIMITS): { plans: Plan[]; out: R } {
  const plans: Plan[] = [];
  const backend = createPlanBackend(limits, (plan) => {
    checkPlan(plan, limits);
    plans.push(plan);
  });
  return { out: withRuntime(createRuntime(backend), f), plans };
}

const EXACT = { rtol: 1e-9, atol: 1e-9 };

/** The fused kernels of plans. */
function fusedIn(plans: readonly Plan[]): string[] {
  return plans.flatMap(({ steps }) => steps).flatMap(({ kernel }) =>
    kernel.kind === "fused" ? kernel.spec.kind : []
  );
}

type Form = (f: LogSumExp, head: Head) => Tensor[];

/** Asserts that a form of the function is exactly that of its definition; gives the kinds of the fused kernels. */
async function assertExact(form: Form, sizes: Sizes): Promise<string[]> {
  const run = (f: LogSumExp) =>
    planned(() => form(f, headOf(sizes, "f32", true)));
  const expected = run(plain).out, { out, plans } = run(scoresLogSumExp);
  for (const [i, y] of out.entries()) {
    await assertClose(y, await expected[i]!.data(), EXACT);
  }
  return fusedIn(plans);
}

/** The gradient of the squares of a gradient. */
function bend(f: (x: Tensor) => Tensor, x: Tensor): Tensor {
  const slope = grad((x: Tensor) => f(x).square().sum());
  return grad((x: Tensor) => slope(x).square().sum())(x);
}

Deno.test("what defines the kernels is exact, also to gradients of gradients", async () => {
  const curved: Form = (f, { x, table, bias }) => [
    bend((x) => f(x, table, bias), x),
    bend((bias) => f(x, table, bias), bias!),
    bend((table) => f(x, table), table),
  ];
  for (const sizes of [[5, 2, 4], [2, 3, 5]] as const) {
    assert((await assertExact(all, sizes)).includes("headLoss"));
    await assertExact(curved, sizes);
  }
});

Deno.test("batches, loops, tangents and checkpoints go through", async () => {
  const forms: Form = (f, { x, table, ct }) => {
    const rows = x.reshape([-1, 1, 2]);
    const ofX = grad((x: Tensor) => f(x, table).sum());
    const step = (table: Tensor) => (sum: Tensor, x: Tensor) => {
      return { carry: sum.add(f(x.reshape([1, 2]), table).sum()), y: null };
    };
    const looped = (table: Tensor) => scan(step(table), tensor(0), x).carry;
    const kept = (table: Tensor) => checkpoint(f)(x, table).mul(ct).sum();
    return [
      vmap((x: Tensor) => f(x, table))(rows),
      vmap(ofX)(rows),
      jvp((x: Tensor) => f(x, table), [x], [x.sin()]).tangent,
      jvp((table: Tensor) => f(x, table), [table], [table.sin()]).tangent,
      grad(looped)(table),
      grad(kept)(table),
    ];
  };
  await assertExact(forms, [5, 2, 4]);
});

Deno.test("results that nobody reads are not asked of a kernel", () => {
  const resultsOf = (f: (x: Tensor, table: Tensor) => Tree) =>
    planned(() => {
      const { x, table } = headOf([5, 2, 5]);
      jit(f).program(x, table);
    }).plans.at(-1)!.steps.flatMap(({ kernel }) =>
      kernel.kind === "fused" ? [kernel.results.map((r) => r !== null)] : []
    );
  const loss = (x: Tensor, table: Tensor) => scoresLogSumExp(x, table).sum();
  const total = (x: Tensor, table: Tensor) =>
    scoresTotal(x, table, x.sum({ axis: 1 }).stopGradient());
  const both = (f: typeof loss) => (x: Tensor, table: Tensor) =>
    Object.entries(
      valueAndGrad((p: { x: Tensor; table: Tensor }) => f(p.x, p.table))({
        x,
        table,
      }),
    ).map(([, part]) => part);
  assertEquals(resultsOf(loss), [[false, true, false, false, false]]);
  assertEquals(resultsOf(grad(loss)), [[false, false, true, false, false]]);
  assertEquals(resultsOf(both(loss)), [[false, true, true, true, false]]);
  const curved = (x: Tensor, table: Tensor) =>
    scoresLogSumExp(x, table).square().sum();
  assertEquals(resultsOf(both(curved)), [
    [false, true, true, false, false],
    [false, false, false, true, false],
  ]);
  assertEquals(resultsOf(total), [[true, false, false, false, false]]);
  assertEquals(resultsOf(both(total)), [[true, false, true, true, false]]);
});

type LossForm = (x: Tensor, table: Tensor) => Tree;

Deno.test("no gradient stores as much as its scores, of whatever engine", () => {
  const V = 100_000, D = 8;
  const loss = (x: Tensor, table: Tensor) => scoresLogSumExp(x, table).sum();
  const total = (x: Tensor, table: Tensor) =>
    scoresTotal(x, table, x.sum({ axis: 1 }).stopGradient());
  const forms = [loss, total].flatMap((f): LossForm[] => [
    grad(f),
    (x: Tensor, table: Tensor) => grad((table: Tensor) => f(x, table))(table),
    (x: Tensor, table: Tensor) =>
      grad((p: { x: Tensor; table: Tensor }) => f(p.x, p.table))({ x, table }),
  ]);
  const division = { threads: 2, leastWork: 0, grain: 16 };
  for (const leastForBlas of [0, Infinity]) {
    const compiler = new ProgramCompiler({
      bits: 32,
      relaxed: true,
      division,
      leastForBlas,
      keeping: WORTH_KEEPING,
    });
    for (const N of [1, 8, 9, 33, 64, 200]) {
      for (const f of forms) {
        const { plans } = planned(() => {
          jit(f).program(zeros([N, D]), zeros([V, D]));
        });
        const plan = plans.at(-1)!;
        const { scratch } = compiler.compile(plan, [false, false]);
        const arena = plan.pages.reduce((sum, page) => sum + page, 0);
        const bytes = arena + scratch.common + division.threads * scratch.own;
        assert(bytes < N * V * 4, `${bytes} bytes for ${N} examples`);
      }
    }
  }
});

/** What `factorsOf` sees, by the types. */
function seen(f: (x: Tensor, table: Tensor) => Tensor): string | null {
  let types: string | null = null;
  jit((x: Tensor, table: Tensor) => {
    const factors = factorsOf(f(x, table));
    const { x: hidden, table: rows, bias } = factors ?? {};
    types = factors && [hidden, rows, ...bias ? [bias] : []].join(" ");
    return x;
  }).program(zeros([2, 3, 4]), zeros([5, 4]));
  return types;
}

Deno.test("the factors of scores are seen through reshapes and halves, and nothing else", () => {
  planned(() => {
    const scores = (x: Tensor, table: Tensor) => x.matmul(table.transpose());
    const factors = "f32[6, 4] f32[5, 4]";
    assertEquals(seen(scores), factors);
    assertEquals(seen((x, t) => scores(x, t).reshape([-1, 5])), factors);
    assertEquals(
      seen((x, t) => x.matmul(t.reshape([4, 5]))),
      factors,
    );
    const half = "f32[6, 4] bf16[5, 4]";
    const wide = (t: Tensor) => t.cast("bf16").cast("f32");
    assertEquals(seen((x, t) => x.matmul(wide(t).transpose())), half);
    assertEquals(seen((x, t) => x.matmul(wide(t.transpose()))), half);
    const sum = (t: Tensor) => t.sum({ axis: 1 });
    assertEquals(seen((x, t) => scores(x, t).add(sum(t))), `${factors} f32[5]`);
    assertEquals(
      seen((x, t) => scores(x, t).reshape([-1, 5]).add(sum(t))),
      `${factors} f32[5]`,
    );
    assertEquals(seen((x, t) => scores(x, t).add(scores(x, t))), null);
    assertEquals(
      seen((x, t) => scores(x, t).add(x.sum({ axis: 2, keepDims: true }))),
      null,
    );
    assertEquals(seen((x, t) => scores(x, t).add(1)), null);
    assertEquals(seen((x, t) => scores(x, t).stopGradient()), null);
    assertEquals(seen((x, t) => scores(x, t).reshape([5, -1])), null);
    assertEquals(seen((x) => x.matmul(x.transpose([0, 2, 1]))), null);
    assertEquals(factorsOf(zeros([2, 4]).matmul(zeros([4, 5]))), null);
  });
  const { fused: _, ...without } = LIMITS;
  planned(() => {
    const scores = (x: Tensor, table: Tensor) => x.matmul(table.transpose());
    assertEquals(seen(scores), null);
  }, without);
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
