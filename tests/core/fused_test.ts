/**
 * Tests of fused functions: where a backend has a kernel, calls become it in all transformations, and elsewhere what
 * defines them.
 *
 * @module
 */

import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import {
  checkpoint,
  type Data,
  grad,
  jit,
  jvp,
  scan,
  type Tensor,
  tensor,
  vmap,
} from "cotan";
import { createRuntime, withRuntime } from "../../core/context.ts";
import type { Backend } from "../../core/backend.ts";
import { createReferenceBackend } from "../../core/cpu/interpreter.ts";
import { fused } from "../../core/fused.ts";
import { fusedAttention } from "../../core/math/attention.ts";
import type { FusedKind } from "../../core/fused_spec.ts";
import type { Plan } from "../../core/plan/kernel.ts";
import { checkPlan } from "../support/plan_checks.ts";
import { createPlanBackend } from "../support/plan_interpreter.ts";
import { upload } from "../support/primitives.ts";
import { fill } from "../support/values.ts";

const LIMITS = {
  buffersPerKernel: 8,
  buffersPerLaunch: 64,
  bytesPerBuffer: 1 << 20,
  bytesPerBinding: 1 << 20,
  alignment: 16,
  fused: new Set<FusedKind>(["attention", "attentionGrad"]),
};

const shape = [2, 4, 3, 2];

/** What a function makes of a tensor on a backend. */
function on(
  backend: Backend,
  f: (x: Tensor) => Tensor,
  of = shape,
): Promise<Data> {
  return withRuntime(
    createRuntime(backend),
    () => f(upload(fill(of, "f32", 1))).data(),
  );
}

/** Which functions of the plans are kernels, where a function runs on a backend that has kernels; it gives what it should. */
async function kernelsOf(
  f: (x: Tensor) => Tensor,
  of?: number[],
): Promise<string[]> {
  const plans: Plan[] = [];
  const found = await on(
    createPlanBackend(LIMITS, (plan) => plans.push(plan)),
    f,
    of,
  );
  const expected = await on(createReferenceBackend("f64"), f, of);
  assertEquals(found.length, expected.length);
  found.forEach((x, i) => assertAlmostEquals(x, expected[i]!, 1e-6));
  plans.forEach((plan) => checkPlan(plan, LIMITS));
  return plans.flatMap(({ steps }) =>
    steps.flatMap(({ kernel }) =>
      kernel.kind === "fused" ? kernel.spec.kind : []
    )
  );
}

const settings = {
  scale: 0.7,
  causal: true,
  window: Infinity,
  position: 0,
  masked: false,
};

/** Attention of a tensor to its first head. */
function attend(x: Tensor): Tensor {
  const k = x.slice([null, null, [0, 1]]);
  return fusedAttention(settings, [x, k, k.mul(2)]).out;
}

Deno.test("a call becomes a kernel that stores only what is read", async () => {
  assertEquals(await kernelsOf(attend), ["attention"]);
  const plans: Plan[] = [];
  const backend = createPlanBackend(LIMITS, (plan) => plans.push(plan));
  await on(backend, jit((x) => attend(x)));
  const [kernel] = plans[0]!.steps.flatMap(({ kernel }) =>
    kernel.kind === "fused" ? kernel : []
  );
  assertEquals(kernel!.results.map((result) => result !== null), [true, false]);
});

const loss = (x: Tensor) => attend(x).square().sum();

Deno.test("the gradient is a kernel too, and its own gradient what defines it", async () => {
  assertEquals(await kernelsOf(jit(grad(loss))), [
    "attention",
    "attentionGrad",
  ]);
  const bend = (x: Tensor) => grad(loss)(x).square().sum();
  // What flows to the function, and to what the pullback keeps of it.
  const flowing = ["attentionGrad", "attentionGrad"];
  assertEquals(await kernelsOf(jit(grad(bend))), [
    "attention",
    "attentionGrad",
    ...flowing,
  ]);
});

Deno.test("calls stay kernels in batches, loops, tangents and checkpoints", async () => {
  const both = ["attention", "attentionGrad"];
  const batch = [3, ...shape];
  assertEquals(await kernelsOf(jit(vmap(attend)), batch), ["attention"]);
  assertEquals(await kernelsOf(jit(vmap(grad(loss))), batch), both);
  const nested = jit(vmap(vmap(grad(loss)), { inAxes: [1] }));
  assertEquals(await kernelsOf(nested, [2, ...batch]), both);
  const kept = jit(grad((x: Tensor) => checkpoint(attend)(x).square().sum()));
  assertEquals(await kernelsOf(kept), ["attention", ...both]);
  const along = jit((x: Tensor) => jvp(attend, [x], [x.mul(0.5)]).tangent);
  assertEquals(await kernelsOf(along), ["attention"]);
  const looped = (x: Tensor) =>
    scan(
      (h: Tensor, _: Tensor) => ({ carry: attend(h), y: null }),
      x,
      tensor([1, 2]),
    ).carry;
  assertEquals(await kernelsOf(jit(looped)), ["attention"]);
  const slope = jit(grad((x: Tensor) => looped(x).square().sum()));
  assertEquals(await kernelsOf(slope), ["attention", ...both]);
});

Deno.test("a fused function that closes over a tensor is a bug", () => {
  const y = tensor([1, 2]);
  const spec = { ...settings, kind: "attention" } as const;
  assertThrows(
    () => fused(spec, (x: Tensor) => x.mul(y))(y),
    Error,
    "Cotan has a bug: a fused function closes over nothing",
  );
});
