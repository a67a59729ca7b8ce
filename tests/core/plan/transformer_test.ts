/**
 * What plans of a Transformer come to: kernels, memory, and the time that planning takes.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { jit, type Tensor, type tree, valueAndGrad, zeros } from "cotan";
import {
  adamw,
  applyUpdates,
  chain,
  clipByGlobalNorm,
  type Optimizer,
} from "cotan/nn";
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
import {
  applyBlock,
  type Block,
  blockParams,
  type Model,
  modelLoss,
  modelParams,
  type Sizes,
} from "../../support/transformer.ts";

const sizes: Sizes = { C: 32, H: 4, T: 16, V: 64, layers: 4 };
const B = 2;

/** What a CPU allows, and what every GPU does. */
const wide: Limits = {
  buffersPerKernel: 64,
  buffersPerLaunch: Infinity,
  bytesPerBuffer: 2 ** 31,
  alignment: 64,
};
const narrow: Limits = {
  buffersPerKernel: 8,
  buffersPerLaunch: 8,
  bytesPerBuffer: 2 ** 27,
  alignment: 256,
};

/** The program and the plan of a function that `make` gives with its arguments. */
function planOf<A extends readonly unknown[], R>(
  limits: Limits,
  make: () => {
    f: (...args: A) => R;
    args: readonly [...A];
    donate?: number[];
  },
): { program: Program; plan: Plan; graph: Graph; seconds: number } {
  let plan: Plan | undefined, graph: Graph | undefined;
  const backend = createPlanBackend(limits, (made) => plan = made);
  const { compile } = backend;
  backend.compile = (of, ...rest) => compile(graph = of, ...rest);
  return withRuntime(createRuntime(backend), () => {
    const { f, args, donate = [] } = make();
    using jitted = jit(f, { donate });
    const start = performance.now();
    const program = jitted.program(...args);
    const seconds = (performance.now() - start) / 1000;
    checkPlan(plan!, limits);
    return { program, plan: plan!, graph: graph!, seconds };
  });
}

const ids = (): Tensor => zeros([B, sizes.T], { dtype: "i32" });

function blockStep(isFused: boolean) {
  return () => ({
    f: (p: Block, x: Tensor, ct: Tensor) =>
      valueAndGrad(({ p, x }: { p: Block; x: Tensor }) =>
        applyBlock(sizes, p, x).mul(ct).sum()
      )({ p, x }),
    args: [
      blockParams(sizes, isFused),
      zeros([B, sizes.T, sizes.C]),
      zeros([B, sizes.T, sizes.C]),
    ] as const,
  });
}

function gradients(layers: number) {
  return () => ({
    f: (p: Model, x: Tensor, y: Tensor) =>
      valueAndGrad((p: Model) => modelLoss(sizes, p, x, y))(p),
    args: [modelParams({ ...sizes, layers }), ids(), ids()] as const,
  });
}

const plainAdamw = adamw({ learningRate: 1e-3 });
const clippedAdamw = chain(clipByGlobalNorm(1), plainAdamw);

function trainingStep<S extends tree.Tree>(
  optimizer: Optimizer<S>,
  isFused = true,
) {
  return () => {
    const params = modelParams(sizes, isFused);
    const state = optimizer.init(params);
    return {
      f: (p: Model, s: S, x: Tensor, y: Tensor) => {
        const { value, grads } = valueAndGrad((p: Model) =>
          modelLoss(sizes, p, x, y)
        )(p);
        const { updates, state } = optimizer.update(grads, s, p);
        return { params: applyUpdates(p, updates), state, value };
      },
      args: [params, state, ids(), ids()] as const,
      donate: [0, 1],
    };
  };
}

Deno.test("a block, forward and backward, is at most 42 kernels", () => {
  for (const limits of [wide, narrow]) {
    for (const isFused of [true, false]) {
      const { program } = planOf(limits, blockStep(isFused));
      assert(program.kernels.length <= 42, String(program));
    }
  }
});

Deno.test("a training step of four layers is at most 180 kernels, at most 4 of them the optimizer's", () => {
  const plain = planOf(wide, gradients(4)).program.kernels.length;
  const { program } = planOf(wide, trainingStep(plainAdamw));
  assert(program.kernels.length <= 180, String(program));
  const own = program.kernels.length - plain;
  assert(own <= 4, `${own} kernels\n${program}`);
  const clipped = planOf(wide, trainingStep(clippedAdamw)).program;
  assert(clipped.kernels.length - plain <= 8, String(clipped));
  const separate = planOf(wide, trainingStep(plainAdamw, false)).program;
  assert(separate.kernels.length <= 180, String(separate));
  const within8 = planOf(narrow, trainingStep(plainAdamw)).program;
  assert(within8.kernels.length <= 180, String(within8));
});

Deno.test("a training step needs little more than what is live at its widest point", () => {
  for (const limits of [wide, narrow]) {
    const { plan } = planOf(limits, trainingStep(plainAdamw));
    const planned = plan.pages.reduce((sum, bytes) => sum + bytes, 0);
    assert(planned <= 1.3 * widestBytes(plan), `${planned} bytes`);
  }
});

Deno.test("little is computed twice", () => {
  const { program, graph } = planOf(wide, trainingStep(plainAdamw));
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
  const { plan } = planOf(wide, trainingStep(plainAdamw));
  const made = plan.outputs.filter(({ kind }) => kind === "new");
  assertEquals(made.length, 1, "only the loss is new");
  assertEquals(plan.freed, []);
});

Deno.test("gradients of twelve layers are traced, derived and planned in under 1.5 s", () => {
  // The quickest of a few: other tests run at the same time.
  const all = [1, 2, 3].map(() => planOf(wide, gradients(12)).seconds);
  assert(Math.min(...all) < 1.5, `${all} s`);
});
