/**
 * How often properties run: few times with one seed by default, many times with fresh seeds under `COTAN_FULL`.
 *
 * @module
 */

import fc from "fast-check";

/** Whether everything is to be tested that can be. */
export const isFull: boolean = Deno.env.get("COTAN_FULL") === "1";

/** How many times as many runs the full sweep takes. */
const ROUNDS = 25;

/** Milliseconds after which it begins no further round with a property. */
const LONGEST = 15_000;

/**
 * Asserts a property: of examples, such as what it once failed of, then about `runs` times by default. fast-check
 * prints the seed and the path of a failure. `longest` bounds the milliseconds of a full sweep.
 */
export async function check<T>(
  property: fc.IAsyncProperty<T> | fc.IProperty<T>,
  runs: number,
  examples: T[] = [],
  longest = LONGEST,
): Promise<void> {
  const numRuns = examples.length + runs;
  if (!isFull) {
    await fc.assert(property, { numRuns, examples, seed: 202 });
    return;
  }
  const start = performance.now();
  let round = 0;
  do {
    await fc.assert(property, { numRuns, examples });
    await collectGarbage();
  } while (++round < ROUNDS && performance.now() - start < longest);
  console.log(`${round * runs} property runs`);
}

/**
 * Frees what the engine and the software adapter hold for objects that are gone, devices and programs above all: the
 * engine does not see how much that is, and takes gigabytes until it looks. Only where the engine offers it.
 */
export async function collectGarbage(): Promise<void> {
  const { gc } = globalThis as { gc?: () => void };
  if (!gc) return;
  gc();
  // Properties of promises alone never let finalizers run.
  await new Promise((resolve) => setTimeout(resolve, 0));
}
