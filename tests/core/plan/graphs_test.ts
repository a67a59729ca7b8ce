/**
 * Random programs: their plans give what the reference gives, whatever the limits, and so do the backends.
 *
 * @module
 */

import fc from "fast-check";
import { assertEquals } from "@std/assert";
import { jit, scope, type Tensor } from "cotan";
import type { Limits } from "../../../core/backend.ts";
import {
  createRuntime,
  currentRuntime,
  type Runtime,
  withRuntime,
} from "../../../core/context.ts";
import { createReferenceBackend } from "../../../core/cpu/interpreter.ts";
import { rounded } from "../../../core/half.ts";
import { assertClose, type CloseOptions } from "../../support/allclose.ts";
import { eachBackend } from "../../support/backends.ts";
import {
  build,
  buildWithGradient,
  type Program,
  programs,
  type Step,
} from "../../support/graphs.ts";
import { checkPlan } from "../../support/plan_checks.ts";
import { createPlanBackend } from "../../support/plan_interpreter.ts";
import { upload } from "../../support/primitives.ts";
import { check } from "../../support/runs.ts";
import { fill } from "../../support/values.ts";

type Build = typeof build;

/** Results of a program as one jitted function, with the inputs donated that are to be. */
function runJitted(runtime: Runtime, program: Program, build: Build): Tensor[] {
  return withRuntime(runtime, () => {
    using f = jit((...xs: Tensor[]) => build(program, xs), {
      donate: program.inputs.flatMap((_, i) => program.donated[i] ? [i] : []),
    });
    return scope(() => f(...program.inputs.map(upload)));
  });
}

/** Results of a program, one operation at a time. */
function runEagerly(
  runtime: Runtime,
  program: Program,
  build: Build,
): Tensor[] {
  return withRuntime(
    runtime,
    () => scope(() => build(program, program.inputs.map(upload))),
  );
}

async function assertAllClose(
  actual: Tensor[],
  expected: Tensor[],
  options: CloseOptions,
): Promise<void> {
  for (const [i, x] of actual.entries()) {
    await assertClose(x, expected[i]!, { ...options, what: `output ${i}` });
  }
  for (const x of new Set([...actual, ...expected])) x.dispose();
}

/** Few buffers, small pages, so that graphs are cut and the arena has several pages. */
const limits: fc.Arbitrary<Limits> = fc.record({
  // A select reads three buffers and writes one.
  buffersPerKernel: fc.integer({ min: 4, max: 8 }),
  buffersPerLaunch: fc.constantFrom(8, 32),
  bytesPerBuffer: fc.constantFrom(2 ** 10, 2 ** 12, 2 ** 20),
  bytesPerBinding: fc.constantFrom(2 ** 9, 2 ** 12, 2 ** 20),
  alignment: fc.constantFrom(4, 64, 256),
  unpacksOperands: fc.boolean(),
});

const steps = (...names: Step["name"][]): Step[] =>
  names.map((name) => ({ name, picks: [0, 0, 0, 0] }));
const none = { outputs: [], donated: [] };
const few: Limits = {
  buffersPerKernel: 4,
  buffersPerLaunch: 8,
  bytesPerBuffer: 2 ** 12,
  bytesPerBinding: 2 ** 12,
  alignment: 4,
};

/** What once failed. */
const regressions: [Program, Limits][] = [
  // The margins of an empty slice's gradient had no place.
  [{
    inputs: [fill([0], "f32", 1)],
    steps: steps("tanh", "slice", "tanh"),
    ...none,
  }, few],
  // The epilogue of a product needed one buffer more than there are.
  [{
    inputs: [fill([1], "f32", 1), fill([], "f32", 2), fill([1, 2], "f32", 3)],
    steps: [
      { name: "product", picks: [1, 0, 0, 0] },
      { name: "where", picks: [3, 1, 0, 0] },
      { name: "where", picks: [3, 2, 0, 0] },
    ],
    ...none,
  }, few],
  // What had been inlined into a kernel was computed on its own in the meantime.
  [{
    inputs: [fill([1], "f32", 1), fill([], "f32", 2)],
    steps: [
      ...steps("tanh"),
      { name: "tanh", picks: [690, 0, 0, 0] },
      ...steps("tanh", "mul", "tanh", "silu"),
      { name: "scatter", picks: [111, 0, 0, 0] },
      { name: "gather", picks: [61, 0, 0, 0] },
      ...steps("tanh", "tanh"),
    ],
    outputs: [8],
    donated: [],
  }, { ...few, buffersPerKernel: 6 }],
  // The test itself: an operand that a rule makes took more than a page.
  [{
    inputs: [fill([17], "f32", 1)],
    steps: steps("unpacked"),
    ...none,
  }, { ...few, bytesPerBuffer: 2 ** 10, bytesPerBinding: 2 ** 9 }],
];

/** The program of the same inputs as f32, some of which are stored as halves. */
function halved(program: Program): Program {
  const inputs = program.inputs.map((x, i) => {
    const dtype = (["bf16", "f32", "f16"] as const)[i % 3]!;
    if (dtype === "f32") return x;
    return { ...x, dtype, data: x.data.map((value) => rounded(value, dtype)) };
  });
  return { ...program, inputs };
}

const buildOfHalves: Build = (program, inputs) =>
  buildWithGradient(program, inputs.map((x) => x.cast("f32")));

const kinds: [name: string, f: Build, programs: fc.Arbitrary<Program>][] = [
  ["a program", build, programs],
  ["the gradient of a program", buildWithGradient, programs],
  ["the gradient of a program of halves", buildOfHalves, programs.map(halved)],
];

for (const [name, f, programs] of kinds) {
  Deno.test(`the plan of ${name} gives what the reference gives, within any limits`, async () => {
    const reference = createRuntime(createReferenceBackend("f64"));
    const holds = fc.asyncProperty(
      programs,
      limits,
      async (program, limits) => {
        const backend = createPlanBackend(
          limits,
          (plan) => checkPlan(plan, limits),
        );
        const planned = createRuntime(backend);
        await assertAllClose(
          runJitted(planned, program, f),
          runEagerly(reference, program, f),
          { rtol: 1e-10, atol: 1e-10 },
        );
        assertEquals(backend.memory().liveBytes, 0);
      },
    );
    await check(holds, 400, f === buildOfHalves ? [] : regressions);
  });

  eachBackend(
    `${name} gives what the reference gives`,
    async (name) => {
      const reference = createRuntime(createReferenceBackend());
      const backend = currentRuntime();
      const holds = fc.asyncProperty(programs, async (program) => {
        await assertAllClose(
          runJitted(backend, program, f),
          runJitted(reference, program, f),
          // Rounding adds up over the steps of a program.
          { rtol: 1e-4, atol: 1e-5 },
        );
      });
      await check(holds, name === "wasm" ? 200 : 25);
    },
    ["wasm", "webgpu"],
  );
}
