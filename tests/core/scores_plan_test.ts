/**
 * Tests of the plans of losses of heads: what defines their kernels, which results these give, and what is stored.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import {
  checkpoint,
  factorsOf,
  grad,
  jit,
  jvp,
  scan,
  scoresLogSumExp,
  scoresTotal,
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
import type { FusedKind } from "../../core/fused_spec.ts";
import type { Plan } from "../../core/plan/kernel.ts";
import { assertClose } from "../support/allclose.ts";
import { checkPlan } from "../support/plan_checks.ts";
import { createPlanBackend } from "../support/plan_interpreter.ts";
import {
  all,
  type Head,
  headOf,
  type LogSumExp,
  plain,
  type Sizes,
} from "./scores_support.ts";

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
