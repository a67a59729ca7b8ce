/**
 * Tests a function of one's own on arbitrary tensors: `deno run examples/check_gradients.ts`.
 *
 * @module
 */

import fc from "fast-check";
import { grad, scope, type Tensor, where } from "cotan";
import {
  arbitraries,
  assertNoLeaks,
  checkGrads,
  toTensors,
} from "cotan/testing";

/** Huber's loss (1964, eq. 4.5 with k = 1): square near 0, straight beyond. */
function huber(x: Tensor): Tensor {
  const size = x.abs();
  return where(size.lt(1), x.square().mul(0.5), size.sub(0.5));
}

if (import.meta.main) {
  const { tensor, broadcastable } = arbitraries(fc);

  // The rules give what finite differences give, to second order, away from where the slope has a kink.
  await fc.assert(
    fc.asyncProperty(
      tensor({ kinks: [-1, 0, 1] }),
      (x) => checkGrads(huber, [x], { order: 2 }),
    ),
  );
  console.log("its gradients are those of finite differences");

  // What one knows of it: the slope is x, cut at -1 and 1.
  await fc.assert(
    fc.asyncProperty(tensor(), (host) =>
      assertNoLeaks(async () => {
        using x = toTensors(host);
        using slope = scope(() => grad((x: Tensor) => huber(x).sum())(x));
        const found = await slope.data();
        host.data.forEach((value, i) => {
          const expected = Math.max(-1, Math.min(1, value));
          if (found[i] !== expected) {
            throw new Error(`the slope at ${value} is ${found[i]}`);
          }
        });
      })),
  );
  console.log("its slope is x between -1 and 1, and nothing leaks");

  // Two arguments of any shapes that broadcast, their difference beyond the kinks.
  const pair = broadcastable().chain(([a, b]) =>
    fc.tuple(
      tensor({ shape: a, min: 1.5, max: 3 }),
      tensor({ shape: b, min: -0.4, max: 0.4 }),
    )
  );
  await fc.assert(
    fc.asyncProperty(
      pair,
      ([x, y]) => checkGrads((x, y) => huber(x.sub(y)), [x, y]),
    ),
  );
  console.log("it broadcasts");
}
