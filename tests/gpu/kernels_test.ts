import fc from "fast-check";
import { check } from "../support/runs.ts";
import { ignore, openBackend, scheduleNames } from "./adapter.ts";
import { checkKernel, tolerance } from "./run.ts";
import { groups, passes } from "./pass_samples.ts";
import {
  gathers,
  halves,
  maps,
  products,
  reductions,
  scatters,
} from "./samples.ts";

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
