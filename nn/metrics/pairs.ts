/**
 * Checks of what is compared element by element.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { ShapeError } from "../../core/mod.ts";

/** Checks that two lists have elements, and as many; `what` names both. */
export function checkPairs(
  a: { readonly length: number },
  b: { readonly length: number },
  what: readonly [string, string],
): void {
  if (a.length !== b.length) {
    throw new ShapeError(
      `Cannot compare ${a.length} ${what[0]} with ${b.length} ${
        what[1]
      }: there must be as many`,
    );
  }
  if (a.length > 0) return;
  throw new ShapeError(
    `Cannot compare no ${what[0]} with no ${what[1]}: there must be some`,
  );
}
