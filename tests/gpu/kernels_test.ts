import fc from "fast-check";
import type { Expr } from "../../core/plan/kernel.ts";
import { check } from "../support/runs.ts";
import { ignore, openBackend, scheduleNames } from "./adapter.ts";
import { call, checkKernel, load, tolerance, wave } from "./run.ts";
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

Deno.test({
  name: "a map may read any number of values that are the same at all points",
  ignore,
  fn: async () => {
    const backend = await openBackend();
    const picked: Expr = {
      kind: "gather",
      buffer: 0,
      view: { offset: 0, strides: [0] },
      index: load(1, [1], "i32"),
      stride: 1,
      size: 40,
      dtype: "f32",
    };
    const expr = Array.from({ length: 40 }, (_, i) => load(0, [0], "f32", i))
      .reduce((sum, x) => call("add", [sum, x]), picked);
    await checkKernel(backend, {
      kind: "map",
      shape: [3],
      outputs: [{ buffer: 2, view: { offset: 0, strides: [1] }, expr }],
    }, [wave(40), Int32Array.of(0, 39, 7), new Float32Array(3)]);
    backend.dispose();
  },
});
