/**
 * How often properties run: few times with one seed by default, many times with fresh seeds under `COTAN_FULL`.
 *
 * @module
 */

import fc from "fast-check";

/** Whether everything is to be tested that can be. */
export const isFull: boolean = Deno.env.get("COTAN_FULL") === "1";

/** How many times as many runs the full sweep takes. */
const FULL = 25;

/**
 * Asserts a property: of examples, such as what it once failed of, then about `runs` times by default. fast-check
 * prints the seed and the path of a failure.
 */
export async function check<T>(
  property: fc.IAsyncProperty<T> | fc.IProperty<T>,
  runs: number,
  examples: T[] = [],
): Promise<void> {
  await fc.assert(property, {
    numRuns: examples.length + (isFull ? runs * FULL : runs),
    examples,
    ...!isFull && { seed: 202 },
  });
}
