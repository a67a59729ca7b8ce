/**
 * Programs of functions within limits of one's choice, their plans checked.
 *
 * @module
 */

import { jit, type Program, type Tensor, type tree, zeros } from "cotan";
import type { Limits } from "../../core/backend.ts";
import { createRuntime, withRuntime } from "../../core/context.ts";
import { checkPlan } from "./plan_checks.ts";
import { createPlanBackend } from "./plan_interpreter.ts";

/** Limits that nothing comes near to. */
export const unlimited: Limits = {
  buffersPerKernel: 64,
  buffersPerLaunch: Infinity,
  bytesPerBuffer: 2 ** 31,
  bytesPerBinding: 2 ** 31,
  alignment: 4,
};

/** The program of a function of zeros of these shapes. */
export function programOf(
  f: (...xs: Tensor[]) => tree.Tree,
  shapes: readonly number[][],
  { limits = unlimited, donate = [] as readonly number[] } = {},
): Program {
  const backend = createPlanBackend(limits, (plan) => checkPlan(plan, limits));
  return withRuntime(createRuntime(backend), () => {
    using compiled = jit(f, { donate: [...donate] });
    return compiled.program(...shapes.map((shape) => zeros(shape)));
  });
}

/** The kinds of the kernels of a program. */
export function kindsOf({ kernels }: Program): string[] {
  return kernels.map(({ kind }) => kind);
}
