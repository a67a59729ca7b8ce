/**
 * Tests of launches: which kernels go together.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import type { Tensor } from "cotan";
import { programOf, unlimited } from "../../support/programs.ts";

Deno.test("no kernel waits for others while what it reads takes memory", () => {
  const chain = (length: number) =>
    programOf((x, w) => {
      const sums: Tensor[] = [];
      for (let i = 0; i < length; i++) {
        x = x!.matmul(w!);
        sums.push(x.sum({ axis: 0 }));
      }
      return sums;
    }, [[64, 8], [8, 8]]);
  assertEquals(chain(9).arenaBytes, chain(3).arenaBytes);
});

Deno.test("kernels that do different things are not launched together", () => {
  const pairs: [(x: Tensor) => Tensor, (x: Tensor) => Tensor][] = [
    [(x) => x.sum(), (x) => x.max()],
    [(x) => x.mul(2), (x) => x.mul(3)],
    [(x) => x.sin(), (x) => x.cos()],
    [(x) => x.sub(x.sin()), (x) => x.sin().sub(x)],
    [(x) => x.cast("i32"), (x) => x.cast("u32")],
    [(x) => x.cast("i32").cast("f32"), (x) => x.cast("u32").cast("f32")],
    [(x) => x.div(0), (x) => x.div(-0)],
  ];
  for (const [f, g] of pairs) {
    const of = (f: (x: Tensor) => Tensor, g: (x: Tensor) => Tensor) =>
      programOf((x, y) => [f(x!), g(y!)], [[3], [4]]).kernels.length;
    assertEquals([of(f, f), of(f, g)], [1, 2], `${f} ${g}`);
  }
});

Deno.test("a launch has no more buffers than there may be", () => {
  const shapes = [1, 2, 3, 4].flatMap((n) => [[n], [n]]);
  const sums = (buffersPerLaunch: number) => {
    const limits = { ...unlimited, buffersPerLaunch };
    const program = programOf(
      (...xs) => xs.flatMap((x, i) => i % 2 ? [] : [x.add(xs[i + 1]!)]),
      shapes,
      { limits },
    );
    return program.kernels.map(({ kind, shape }) => `${kind} ${shape}`);
  };
  assertEquals(sums(12), ["group 4"]);
  assertEquals(sums(11), ["group 3", "map 4"]);
  assertEquals(sums(8), ["group 2", "group 2"]);
});
