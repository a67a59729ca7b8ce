/**
 * Results by the names of expressions that give the same in NumPy.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import type { NestedArray, Tensor } from "cotan";

/** What is computed, and what it should be; a shape alone where there are no elements. */
export type Row = readonly [
  actual: Tensor,
  expected: NestedArray | { readonly shape: readonly number[] },
];

/** Asserts rows by the names of the expressions. */
export async function assertRows(
  rows: Readonly<Record<string, Row>>,
): Promise<void> {
  for (const [name, [actual, expected]] of Object.entries(rows)) {
    if (typeof expected === "object" && "shape" in expected) {
      assertEquals([name, actual.shape], [name, expected.shape]);
      continue;
    }
    assertEquals([name, await actual.toArray()], [name, expected]);
  }
}
