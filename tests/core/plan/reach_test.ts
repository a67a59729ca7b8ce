/**
 * Reach: the bytes that kernels touch.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import type { DType } from "../../../core/dtype.ts";
import type { SimpleKernel } from "../../../core/plan/kernel.ts";
import { bindingsOf, reachOf } from "../../../core/plan/reach.ts";

/** A product [4, 64] of [4, 128] by [128, 64]. */
function product(a: DType, b: DType): SimpleKernel {
  const matrix = (buffer: number, columns: number, dtype: DType) => {
    return { buffer, view: { offset: 0, strides: [columns, 1] }, dtype };
  };
  const output = matrix(2, 64, "f32");
  return {
    kind: "matmul",
    shape: [4, 64],
    k: 128,
    a: matrix(0, 128, a),
    b: matrix(1, 64, b),
    outputs: [{ ...output, expr: { kind: "acc", index: 0, dtype: "f32" } }],
  };
}

Deno.test("operands of a product reach as far as their dtypes say", () => {
  const ends = (kernel: SimpleKernel) =>
    reachOf(kernel).map(({ buffer, first, end }) => [buffer, first, end]);
  const stored = [2, 0, 4 * 64 * 4];
  assertEquals(ends(product("f32", "bf16")), [
    [0, 0, 4 * 128 * 4],
    [1, 0, 128 * 64 * 2],
    stored,
  ]);
  assertEquals(ends(product("f16", "f32")), [
    [0, 0, 4 * 128 * 2],
    [1, 0, 128 * 64 * 4],
    stored,
  ]);
});

Deno.test("a matrix of halves takes half the bindings", () => {
  const limits = { buffersPerKernel: 8, bytesPerBinding: 8192 };
  assertEquals(bindingsOf(product("f32", "f32"), limits), 1 + 4 + 1);
  assertEquals(bindingsOf(product("f32", "bf16"), limits), 1 + 2 + 1);
});
