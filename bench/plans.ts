/**
 * What plans of a Transformer in the shape of GPT-2 come to: kernels, memory, and the time that planning takes.
 *
 * Run it with `deno run -A bench/plans.ts`.
 *
 * @module
 */

import { init, jit, scope } from "cotan";
import type { Program } from "../core/plan/describe.ts";
import type { Sizes } from "../tests/support/transformer.ts";
import {
  blockStep,
  clippedAdamw,
  gradients,
  plainAdamw,
  trainingStep,
} from "../tests/support/workloads.ts";

const sizes: Sizes = { C: 64, H: 4, T: 32, V: 128, layers: 4 };

/** The program of a function, and the seconds from its call to its plan. */
function planned<A extends readonly unknown[], R>(
  { f, args, donate }: {
    f: (...args: A) => R;
    args: readonly [...A];
    donate: number[];
  },
): [Program, number] {
  using jitted = jit(f, { donate });
  const start = performance.now();
  return [jitted.program(...args), (performance.now() - start) / 1000];
}

for (const backend of ["wasm", "webgpu"] as const) {
  await init({ backend });
  console.log(`${backend}:`);
  scope(() => {
    const plans = {
      "block, one matrix for q, k and v": planned(blockStep(sizes, true)),
      "block, three of them": planned(blockStep(sizes, false)),
      "gradients of 4 layers": planned(gradients(sizes)),
      "AdamW step of 4 layers": planned(trainingStep(sizes, plainAdamw)),
      "clipped AdamW step of 4 layers": planned(
        trainingStep(sizes, clippedAdamw),
      ),
      "gradients of 12 layers": planned(gradients({ ...sizes, layers: 12 })),
    };
    for (const [name, [program, seconds]] of Object.entries(plans)) {
      const { kernels, slots, arenaBytes } = program;
      console.log(
        `${name.padEnd(34)} ${kernels.length} kernels, ${slots} slots in ${
          (arenaBytes / 2 ** 20).toFixed(2)
        } MiB, ${seconds.toFixed(2)} s`,
      );
    }
  });
}
