/**
 * Tests of what kernels share inside.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import type { Tensor } from "cotan";
import { programOf } from "../../support/programs.ts";

Deno.test("exponentials are kept in the place of one result, once", () => {
  const program = programOf((x: Tensor) => {
    const y = x.softmax();
    return [y.mul(2), y.mul(3)];
  }, [[3, 5]]);
  const [line] = String(program).split("\n");
  assertEquals(program.kernels.length, 1);
  assertEquals(line!.match(/exp/g)!.length, 2, "in a sum and a store");
});
