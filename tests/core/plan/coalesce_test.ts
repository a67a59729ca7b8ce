/**
 * Tests of coalescing: loops become as few as views allow.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import type { Tensor } from "cotan";
import { programOf } from "../../support/programs.ts";

const shapeOf = (f: (x: Tensor) => Tensor, shape: number[]) =>
  programOf((x) => f(x!), [shape]).kernels[0]!.shape;

Deno.test("loops that every view goes through as one are one", () => {
  assertEquals(shapeOf((x) => x.sin(), [2, 3, 4]), [24]);
});

Deno.test("a loop of one trip goes", () => {
  assertEquals(shapeOf((x) => x.slice([[0, 4], [1, 2]]).sin(), [4, 3]), [4]);
});
