/**
 * One token through linear layers of 2,048 and 4,096 channels, by what their weights are stored as: what decoding takes.
 *
 * The weights are more than the caches hold, so that they come from memory.
 *
 * @module
 */

import { jit, random, scope, type Tensor } from "cotan";
import { quantize } from "cotan/lora";
import { type Linear, linear } from "cotan/nn";
import { availableBackends, benchOn, settle } from "./backends.ts";

const LAYERS = 12, NARROW = 2048, WIDE = 4096;

/** Bytes of a weight, with its share of a scale. */
const kinds = { f32: 4, bf16: 2, f16: 2, int8: 1, nf4: 0.5625 } as const;

function layer(i: number, kind: keyof typeof kinds): Linear {
  const shape = i % 2 === 0 ? [WIDE, NARROW] : [NARROW, WIDE];
  const weight = random.normal(random.key(i), shape).mul(0.05);
  return kind === "int8" || kind === "nf4"
    ? quantize({ layer: { weight } }, { kind, targets: ["layer"] }).layer
    : { weight: weight.cast(kind) };
}

for (const backend of await availableBackends()) {
  for (const [kind, bytes] of Object.entries(kinds)) {
    const megabytes = LAYERS * NARROW * WIDE * bytes / 1e6;
    const label = `${kind}, ${megabytes.toFixed(0)} MB`;
    benchOn(backend, `a token, ${backend}`, label, () => {
      const layers = Array.from(
        { length: LAYERS },
        (_, i) => scope(() => layer(i, kind as keyof typeof kinds)),
      );
      const x = random.normal(random.key(99), [1, NARROW]);
      const run = jit((layers: Linear[], x: Tensor) =>
        layers.reduce((x, layer) => linear(layer, x), x)
      );
      return Promise.resolve(() => settle(run(layers, x)));
    });
  }
}
