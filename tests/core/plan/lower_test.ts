/**
 * Tests of lowering: what a kernel does after a reduction or product.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { jit, type Tensor, tensor } from "cotan";
import { eachBackend } from "../../support/backends.ts";

eachBackend("a sum or product is read where it was moved to", async () => {
  const x = tensor([[1, 2], [3, 5]]);
  const moves: [(x: Tensor) => Tensor, number[] | number[][]][] = [
    [(x) => x.sum({ axis: 1 }).flip([0]).add(1), [9, 4]],
    [(x) => x.max({ axis: 0 }).flip([0]).mul(2), [10, 6]],
    [(x) => x.matmul(x).flip([0]).add(1), [[19, 32], [8, 13]]],
    [(x) => x.matmul(x).flip([0, 1]).neg(), [[-31, -18], [-12, -7]]],
    [(x) => x.unsqueeze(2).mul(x).sum({ axis: 1 }).transpose().add(1), [
      [8, 19],
      [13, 32],
    ]],
  ];
  for (const [f, expected] of moves) {
    using compiled = jit((x: Tensor) => f(x));
    assertEquals(await compiled(x).toArray(), expected, String(f));
  }
});
