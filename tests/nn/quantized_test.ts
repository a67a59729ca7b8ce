import { assert } from "@std/assert";
import fc from "fast-check";
import { grad, jit, random, scope, type Tensor } from "cotan";
import { quantize } from "cotan/lora";
import { conv1D, linear } from "cotan/nn";
import { dense, type QuantizedWeight } from "../../nn/quantized.ts";
import { eachBackend, withThreads } from "../support/backends.ts";
import { check } from "../support/runs.ts";
import { distance } from "../lora/support.ts";

/** Sizes of a product, on either side of what kernels treat apart. */
const shapes = fc.record({
  rows: fc.constantFrom(1, 2, 3, 4, 5, 16, 70),
  inputs: fc.constantFrom(64, 128, 704),
  outputs: fc.constantFrom(64, 192),
  kind: fc.constantFrom("int8", "nf4"),
  layer: fc.constantFrom(linear, conv1D),
  seed: fc.nat(99),
});

eachBackend(
  "products with quantised weights, and their gradients, are those with the same weights in f32",
  async () => {
    const property = fc.asyncProperty(
      shapes,
      async ({ rows, inputs, outputs, kind, layer, seed }) => {
        const at = random.split(random.key(seed), 2);
        const size = layer === linear ? [outputs, inputs] : [inputs, outputs];
        const weight = random.normal(at[0]!, size);
        const x = random.normal(at[1]!, [rows, inputs]);
        const { fc } = quantize({ fc: { weight } }, { kind });
        const small = fc.weight as unknown as QuantizedWeight;
        const run = (weight: Tensor, x: Tensor) => {
          const loss = (x: Tensor) => layer({ weight }, x).square().sum();
          return [layer({ weight }, x), grad(loss)(x)];
        };
        using found = jit((w: QuantizedWeight, x: Tensor) =>
          run(w as unknown as Tensor, x)
        );
        using plain = jit(run);
        const expected = plain(scope(() => dense(small)), x);
        for (const [i, y] of found(small, x).entries()) {
          const gap = distance(await expected[i]!.data(), await y.data());
          assert(gap < 1e-6, `${gap}`);
        }
      },
    );
    await check(property, 8);
  },
  withThreads,
);
