/**
 * Tests of the plans of loops: how small they are, and random programs in loops.
 *
 * @module
 */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import {
  concat,
  iota,
  jit,
  ones,
  scan,
  scope,
  type Tensor,
  tensor,
  valueAndGrad,
  zeros,
} from "cotan";
import {
  createRuntime,
  currentRuntime,
  withRuntime,
} from "../../../core/context.ts";
import { createReferenceBackend } from "../../../core/cpu/interpreter.ts";
import { assertClose } from "../../support/allclose.ts";
import { eachBackend, inFloat64 } from "../../support/backends.ts";
import { build, type Program, programs } from "../../support/graphs.ts";
import { rnnLoss, rnnOf, unrolled } from "../../support/loops.ts";
import { checkPlan } from "../../support/plan_checks.ts";
import { createPlanBackend } from "../../support/plan_interpreter.ts";
import { upload } from "../../support/primitives.ts";
import { check } from "../../support/runs.ts";

eachBackend("donated carries are updated in place", async () => {
  using f = jit(
    (h: Tensor, xs: Tensor) =>
      scan((h: Tensor, x: Tensor) => ({ carry: h.mul(x), y: null }), h, xs)
        .carry,
    { donate: [0] },
  );
  const xs = tensor([2, 3, 4]);
  assertStringIncludes(String(f.program(ones([2]), xs)), "1 in place");
  assertEquals(await f(ones([2]), xs).toArray(), [24, 24]);
});

inFloat64("a program is as small for a thousand steps as for ten", () => {
  using f = jit(valueAndGrad(rnnLoss(scan)));
  const p = rnnOf(5, 3);
  const of = (length: number) => f.program(p, zeros([length, 2, 3]));
  const few = of(10), many = of(1000);
  assertEquals(many.kernels.length, few.kernels.length);
  assert(many.kernels.length <= 30, `${many.kernels.length} kernels`);
  const lines = String(many).split("\n");
  assertEquals(lines.filter((line) => line.trim() === "1000 times:").length, 2);
  // Each step counts.
  assertEquals(many.flops - of(999).flops, of(3).flops - of(2).flops);
});

inFloat64(
  "the next carry takes the place of the one before it without a copy",
  () => {
    const inLoop = (step: (h: Tensor, x: Tensor) => Tensor) => {
      using f = jit((h: Tensor, xs: Tensor) =>
        scan((h: Tensor, x: Tensor) => ({ carry: step(h, x), y: null }), h, xs)
          .carry
      );
      const lines = String(f.program(ones([4, 4]), ones([9, 4, 4]))).split(
        "\n",
      );
      return lines.filter((line) => /^ *\d+ {4}/.test(line))
        .map((line) => line.trim().split(/ +/)[1]);
    };
    const counter = "map";
    assertEquals(inLoop((h, x) => h.mul(x).add(1)), ["map", counter]);
    assertEquals(inLoop((h, x) => x.matmul(x).add(h)), [
      "map",
      "matmul",
      counter,
    ]);
    assertEquals(inLoop((h, x) => h.matmul(x).tanh().matmul(x)), [
      "map",
      "matmul",
      "matmul",
      counter,
    ]);
    // Several kernels may store it.
    const halves = inLoop((_, x) => {
      const half = x.slice([[0, 2]]);
      return concat([half.sin(), half.cos()]);
    });
    assertEquals(halves, ["map", "map", "map", counter]);
    // What a product reads cannot be where it stores.
    assertEquals(inLoop((h, x) => h.matmul(x)), [
      "map",
      "matmul",
      "map",
      counter,
    ]);
  },
);

inFloat64("what nobody reads of a loop is not computed", () => {
  using f = jit((x: Tensor) => {
    const costly = x.matmul(x);
    const step = ({ a, b }: { a: Tensor; b: Tensor }, i: Tensor) => ({
      carry: { a: a.add(1), b: b.exp().matmul(b) },
      y: { used: a, unused: b.sin().add(i.cast("f32")).add(costly) },
    });
    const { carry, ys } = scan(step, { a: x, b: x }, iota([5]));
    return [carry.a, ys.used];
  });
  const { kernels } = f.program(ones([2, 2]));
  assert(kernels.every(({ kind }) => kind !== "matmul"));
  assert(kernels.length <= 8, `${kernels.length} kernels`);
});

/** A random program as the step of a loop: results, kept small, take the places of carries of their shapes. */
function loopOf(
  loop: typeof scan,
  program: Program,
  inputs: readonly Tensor[],
): Tensor[] {
  const step = (carry: Tensor[], x: Tensor) => {
    const [first, ...others] = carry;
    const results = build(program, [first!.add(x), ...others]);
    const pool = [...results.map((y) => y.tanh()), ...carry];
    const next = carry.map((c, i) =>
      pool.slice(i).find((y) => y !== c && String(y) === String(c)) ?? c
    );
    return { carry: next, y: results };
  };
  const { carry, ys } = loop(step, [...inputs], tensor([0.1, -0.2, 0.3]));
  return [...carry, ...ys];
}

function loopAndGradient(
  loop: typeof scan,
  program: Program,
  inputs: readonly Tensor[],
): Tensor[] {
  const { value, grads } = valueAndGrad((inputs: Tensor[]) =>
    loopOf(loop, program, inputs).map((x) => x.sin().sum())
      .reduce((a, b) => a.add(b))
  )([...inputs]);
  return [value, ...grads];
}

for (const f of [loopOf, loopAndGradient]) {
  const what = f === loopOf ? "a loop" : "the gradient of a loop";
  Deno.test(`the plan of ${what} over a random program gives what unrolled steps give`, async () => {
    const limits = {
      buffersPerKernel: 4,
      buffersPerLaunch: 8,
      bytesPerBuffer: 2 ** 20,
      bytesPerBinding: 2 ** 20,
      alignment: 4,
    };
    const reference = createRuntime(createReferenceBackend("f64"));
    const planned = createRuntime(
      createPlanBackend(limits, (plan) => checkPlan(plan, limits)),
    );
    const holds = fc.asyncProperty(programs, async (program) => {
      const donate = program.inputs.flatMap((_, i) =>
        program.donated[i] ? [i] : []
      );
      const actual = withRuntime(planned, () => {
        using compiled = jit(
          (...inputs: Tensor[]) => f(scan, program, inputs),
          { donate },
        );
        return scope(() => compiled(...program.inputs.map(upload)));
      });
      const expected = withRuntime(
        reference,
        () => f(unrolled, program, program.inputs.map(upload)),
      );
      for (const [i, x] of actual.entries()) {
        await assertClose(x, expected[i]!, {
          rtol: 1e-8,
          atol: 1e-8,
          what: `output ${i}`,
        });
      }
    });
    await check(holds, 100);
  });
}

eachBackend("random programs run in loops as unrolled", async (name) => {
  const reference = createRuntime(createReferenceBackend());
  const backend = currentRuntime();
  const holds = fc.asyncProperty(programs, async (program) => {
    const run = () => {
      using compiled = jit((...inputs: Tensor[]) =>
        loopAndGradient(scan, program, inputs)
      );
      return scope(() => compiled(...program.inputs.map(upload)));
    };
    const actual = withRuntime(backend, run);
    const expected = withRuntime(reference, run);
    for (const [i, x] of actual.entries()) {
      await assertClose(x, expected[i]!, { rtol: 1e-3, atol: 1e-4 });
    }
  });
  await check(holds, name === "wasm" ? 60 : 8);
}, ["wasm", "threads", "webgpu"]);
