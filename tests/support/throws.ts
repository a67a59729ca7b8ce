/**
 * Tests of errors: the class, the exact text, and that the stack reaches the line of the call.
 *
 * @module
 */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { jit, type Tensor, zeros } from "cotan";
import { inFloat64 } from "./backends.ts";

/** A call and the text of the error that it throws. */
export type Throwing = readonly [call: () => unknown, text: string];

/** Registers a test that each call throws an error of a class with an exact text, also while a function is traced. */
export function throws(
  name: string,
  type: new (...args: never[]) => Error,
  cases: readonly Throwing[],
): void {
  inFloat64(name, () => {
    for (const [call, text] of cases) {
      const error = assertThrows(call, type);
      assertEquals(error.message, text);
      assert(error.stack!.includes("_test.ts"), "the stack ends early");
      const traced = assertThrows(() => jit(() => call() as Tensor)(), type);
      assertEquals(traced.message, text);
      assert(traced.stack!.includes("_test.ts"), "the stack ends early");
    }
  });
}

/** Zeros of a dtype and shape. */
export const f32 = (...shape: number[]): Tensor => zeros(shape);
/** Zeros of a dtype and shape. */
export const i32 = (...shape: number[]): Tensor =>
  zeros(shape, { dtype: "i32" });
/** Zeros of a dtype and shape. */
export const bool = (...shape: number[]): Tensor =>
  zeros(shape, { dtype: "bool" });
