/**
 * Tests of grouping: what is computed into a buffer, and what again where it is used.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import type { Tensor } from "cotan";
import { programOf } from "../../support/programs.ts";

Deno.test("what is seen in two places is computed once for each element", () => {
  const once = programOf((x) => x!.tanh(), [[8, 8]]).flops;
  const program = programOf((x) => {
    const y = x!.tanh();
    return y.add(y.transpose());
  }, [[8, 8]]);
  assertEquals(program.flops, once + 64);
});

Deno.test("what is repeated along an axis is computed once for each element", () => {
  const once = programOf((x) => x!.tanh(), [[8]]).flops;
  for (const axis of [0, 1]) {
    const { flops } = programOf(
      (x, y) => x!.tanh().unsqueeze(axis).mul(y!),
      [[8], [8, 8]],
    );
    assertEquals(flops, once + 64);
  }
  const { flops } = programOf(
    (x, y) => x!.tanh().unsqueeze(1).expand([8, 8]).reshape([64]).mul(y!),
    [[8], [64]],
  );
  assertEquals(flops, once + 64);
  const twice = programOf(
    (x, y) => x!.tanh().unsqueeze(1).unsqueeze(1).expand([8, 2, 4]).mul(y!),
    [[8], [8, 2, 4]],
  );
  assertEquals(twice.flops, once + 64);
});

Deno.test("a sum that is returned and used is computed once", () => {
  const sum = (x: Tensor) => x.sum({ axis: 1, keepDims: true });
  const program = programOf((x) => [sum(x!), sum(x!).add(1)], [[8, 8]]);
  assertEquals(program.kernels.length, 1);
  assertEquals(program.flops, 64 + 8);
});
