/**
 * Matrix products on each backend: square ones, the thin ones of LoRA, and one of few rows.
 *
 * A run multiplies several times and then reads one number back, so that what WebGPU takes to read counts little.
 *
 * @module
 */

import { jit, random, type Tensor } from "cotan";
import { availableBackends, benchOn, settle } from "./backends.ts";

/** Products of one run. */
const REPEATS = 8;

/** Sizes [M, K, N]. */
const sizes: readonly (readonly [number, number, number])[] = [
  [256, 256, 256],
  [512, 512, 512],
  [1024, 1024, 1024],
  [512, 768, 8],
  [512, 8, 768],
  [16, 512, 512],
];

const backends = await availableBackends();
for (const [m, k, n] of sizes) {
  const gflop = 2 * m * k * n * REPEATS / 1e9;
  const label = `${m} x ${k} x ${n}, ${gflop.toFixed(3)} GFLOP a run`;
  for (const backend of backends) {
    benchOn(backend, `matmul ${m} x ${k} x ${n}`, label, () => {
      const a = random.normal(random.key(0), [m, k]);
      const b = random.normal(random.key(1), [k, n]);
      const product = jit((x: Tensor, y: Tensor) => x.matmul(y));
      return Promise.resolve(async () => {
        for (let i = 1; i < REPEATS; i++) product(a, b).dispose();
        await settle(product(a, b));
      });
    });
  }
}
