/**
 * Tests of programs with loops among other kernels.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { jit, scan, type Tensor, tensor } from "cotan";
import { eachBackend } from "../../support/backends.ts";
import { programOf } from "../../support/programs.ts";

eachBackend(
  "what is returned is stored, also where a loop stands beside",
  async () => {
    using f = jit((x: Tensor) => {
      const square = x.square();
      const step = (c: Tensor) => ({ carry: c.mul(2), y: null });
      const { carry } = scan(step, x, null, { length: 3 });
      const next = carry.add(1);
      return [square, square.neg().sum(), carry, next, next.neg().sum()];
    });
    const results = f(tensor([1, 2])) as unknown as Tensor[];
    assertEquals(await Promise.all(results.map((x) => x.toArray())), [
      [1, 4],
      -5,
      [8, 16],
      [9, 17],
      -26,
    ]);
  },
);

Deno.test("loops one after another share memory", () => {
  const bytes = (loops: number) =>
    programOf((x) => {
      for (let i = 0; i < loops; i++) {
        const wide = x!.sin().matmul(x!);
        const step = (c: Tensor) => ({ carry: wide.matmul(c), y: null });
        x = scan(step, x!, null, { length: 3 }).carry;
      }
      return x!;
    }, [[8, 8]]).arenaBytes;
  assertEquals(bytes(6), bytes(3));
});
