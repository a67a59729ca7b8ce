import fc from "fast-check";
import type { Kernel } from "../../core/plan/kernel.ts";
import { sizeOf } from "../../core/shape.ts";
import { check } from "../support/runs.ts";
import { ignore, openBackend, scheduleNames } from "./adapter.ts";
import { checkKernel } from "./run.ts";
import { groups, passes } from "./pass_samples.ts";
import {
  gathers,
  halves,
  maps,
  products,
  reductions,
  scatters,
} from "./samples.ts";

/** Rounding errors of sums grow with the root of the number of terms. */
function tolerance(kernel: Kernel): number {
  if (kernel.kind === "group") return Math.max(...kernel.parts.map(tolerance));
  const terms = kernel.kind === "reduce"
    ? sizeOf(kernel.over)
    : kernel.kind === "matmul"
    ? 4 * kernel.k
    : 1;
  return 5e-6 * Math.sqrt(Math.max(4, terms));
}

for (const schedule of scheduleNames) {
  const kinds = {
    maps,
    halves,
    gathers,
    reductions,
    passes,
    products,
    scatters,
    groups,
  };
  for (const [name, samples] of Object.entries(kinds)) {
    Deno.test({
      name:
        `${name} of all layouts agree with plain loops, ${schedule} schedule`,
      ignore,
      fn: async () => {
        const backend = await openBackend(schedule);
        await check(
          fc.asyncProperty(
            samples,
            ([kernel, buffers]) =>
              checkKernel(backend, kernel, buffers, tolerance(kernel)),
          ),
          20,
        );
        backend.dispose();
      },
    });
  }
}
