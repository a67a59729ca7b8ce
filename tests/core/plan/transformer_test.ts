/**
 * What plans of a Transformer come to: kernels, memory, and the time that planning takes.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { jit } from "cotan";
import type { Graph, Limits } from "../../../core/backend.ts";
import { createRuntime, withRuntime } from "../../../core/context.ts";
import { toposort } from "../../../core/graph.ts";
import { ops } from "../../../core/ops.ts";
import { simplify } from "../../../core/plan/simplify.ts";
import { sizeOf } from "../../../core/shape.ts";
import type { Plan } from "../../../core/plan/kernel.ts";
import type { Program } from "../../../core/plan/describe.ts";
import { createPlanBackend } from "../../support/plan_interpreter.ts";
import { checkPlan, widestBytes } from "../../support/plan_checks.ts";
import type { Sizes } from "../../support/transformer.ts";
import {
  blockStep,
  clippedAdamw,
  gradients,
  plainAdamw,
  trainingStep,
} from "../../support/workloads.ts";

const sizes: Sizes = { C: 32, H: 4, T: 16, V: 64, layers: 4 };

/** What a CPU allows, and what every GPU does. */
const wide: Limits = {
  buffersPerKernel: 64,
  buffersPerLaunch: Infinity,
  bytesPerBuffer: 2 ** 31,
  bytesPerBinding: 2 ** 31,
  alignment: 64,
};
const narrow: Limits = {
  buffersPerKernel: 8,
  buffersPerLaunch: 8,
  bytesPerBuffer: 2 ** 27,
  bytesPerBinding: 2 ** 27,
  alignment: 256,
};

/** The program and the plan of a function that `make` gives with its arguments. */
function planOf<A extends readonly unknown[], R>(
  limits: Limits,
  make: () => {
    f: (...args: A) => R;
    args: readonly [...A];
    donate: number[];
  },
): { program: Program; plan: Plan; graph: Graph; seconds: number } {
  let plan: Plan | undefined, graph: Graph | undefined;
  const backend = createPlanBackend(limits, (made) => plan = made);
  const { compile } = backend;
  backend.compile = (of, ...rest) => compile(graph = of, ...rest);
  return withRuntime(createRuntime(backend), () => {
    const { f, args, donate } = make();
    using jitted = jit(f, { donate });
    const start = performance.now();
    const program = jitted.program(...args);
    const seconds = (performance.now() - start) / 1000;
    checkPlan(plan!, limits);
    return { program, plan: plan!, graph: graph!, seconds };
  });
}

Deno.test("a block, forward and backward, is at most 42 kernels", () => {
  for (const limits of [wide, narrow]) {
    for (const isFused of [true, false]) {
      const { program } = planOf(limits, () => blockStep(sizes, isFused));
      assert(program.kernels.length <= 42, String(program));
    }
  }
});

Deno.test("a training step of four layers is at most 180 kernels, at most 4 of them the optimizer's", () => {
  const plain = planOf(wide, () => gradients(sizes)).program.kernels.length;
  const { program } = planOf(wide, () => trainingStep(sizes, plainAdamw));
  assert(program.kernels.length <= 180, String(program));
  const own = program.kernels.length - plain;
  assert(own <= 4, `${own} kernels\n${program}`);
  const clipped = planOf(wide, () => trainingStep(sizes, clippedAdamw)).program;
  assert(clipped.kernels.length - plain <= 6, String(clipped));
  const separate =
    planOf(wide, () => trainingStep(sizes, plainAdamw, false)).program;
  assert(separate.kernels.length <= 180, String(separate));
  const within8 = planOf(narrow, () => trainingStep(sizes, plainAdamw)).program;
  assert(within8.kernels.length <= 180, String(within8));
});

Deno.test("a training step needs little more than what is live at its widest point", () => {
  for (const limits of [wide, narrow]) {
    const { plan } = planOf(limits, () => trainingStep(sizes, plainAdamw));
    const planned = plan.pages.reduce((sum, bytes) => sum + bytes, 0);
    assert(planned <= 1.3 * widestBytes(plan), `${planned} bytes`);
  }
});

Deno.test("little is computed twice", () => {
  const { program, graph } = planOf(
    wide,
    () => trainingStep(sizes, plainAdamw),
  );
  // Scalar functions of each element, and two operations for each term of a sum of products.
  const once = toposort(simplify(graph).outputs).map((node) => {
    const { kind } = ops[node.op], [x] = node.inputs;
    if (kind === "elementwise") return sizeOf(node.shape);
    if (kind === "reduce") return sizeOf(x!.shape);
    return kind === "product" ? 2 * sizeOf(node.shape) * x!.shape.at(-1)! : 0;
  }).reduce((sum, flops) => sum + flops, 0);
  assert(program.flops < 1.1 * once, `${program.flops} of ${once}`);
});

Deno.test("a training step updates its parameters and its state in place", () => {
  const { plan } = planOf(wide, () => trainingStep(sizes, plainAdamw));
  const made = plan.outputs.filter(({ kind }) => kind === "new");
  assertEquals(made.length, 1, "only the loss is new");
  assertEquals(plan.freed, []);
});

Deno.test("gradients of twelve layers are traced, derived and planned in under 1.5 s", () => {
  // The quickest of a few: other tests run at the same time.
  const all = [1, 2, 3].map(() =>
    planOf(wide, () => gradients({ ...sizes, layers: 12 })).seconds
  );
  assert(Math.min(...all) < 1.5, `${all} s`);
});
