/**
 * Numbers of a few bits, packed in words.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { ShapeError } from "../errors.ts";
import { format } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { apply } from "../trace.ts";

/** How many numbers four bits can tell apart. */
const LEVELS = 16;

/**
 * The numbers that are packed in words u32[..., n], as f32: the bytes of each word from the lowest up, [..., 4 · n]; or
 * with sixteen `levels`, for each four bits the level of that number, [..., 8 · n].
 *
 * A compiled product computes them as it reads its operand, so that a frozen weight takes no more memory than its words.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor, unpack } from "cotan";
 *
 * const words = tensor([0x04030201], { dtype: "u32" });
 * assertEquals(await unpack(words).toArray(), [1, 2, 3, 4]);
 *
 * const halves = Array.from({ length: 16 }, (_, i) => i / 2);
 * const numbers = await unpack(words, halves).toArray();
 * assertEquals(numbers, [0.5, 0, 1, 0, 1.5, 0, 2, 0]);
 * ```
 */
export function unpack(words: Tensor, levels?: readonly number[]): Tensor {
  if (levels && levels.length !== LEVELS) {
    throw new RangeError(
      `Cannot unpack ${
        format(words)
      }: four bits tell ${LEVELS} levels apart, not ${levels.length}`,
    );
  }
  if (words.shape.length === 0) {
    throw new ShapeError(
      `Cannot unpack ${format(words)}: it needs a last axis; use reshape([1])`,
    );
  }
  return apply("unpack", [words], { levels: levels ? [...levels] : null });
}
