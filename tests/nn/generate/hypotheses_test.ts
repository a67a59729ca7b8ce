import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { extend, START } from "../../../nn/generate/hypotheses.ts";
import { check } from "../../support/runs.ts";
import { slowBeamSearch } from "./slow_beam_search.ts";

/** Log-probabilities without a pattern behind a sequence, the same for a seed. */
function scoresOf(
  ids: readonly number[],
  size: number,
  seed: number,
): number[] {
  let hash = seed;
  for (const id of ids) hash = Math.imul(hash ^ (id + 1), 0x9e3779b1) >>> 7;
  const weights = Array.from(
    { length: size },
    (_, i) => Math.exp(3 * Math.sin(hash % 9973 + 37 * i * i)),
  );
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((w) => Math.log(w / total));
}

Deno.test("the bookkeeping of beams is that of whole sequences", async () => {
  const size = 7;
  const searches = fc.record({
    seed: fc.nat(),
    beams: fc.integer({ min: 1, max: 5 }),
    maxNewTokens: fc.integer({ min: 1, max: 8 }),
    stop: fc.uniqueArray(fc.integer({ min: 0, max: size - 1 }), {
      maxLength: 4,
    }),
    lengthPenalty: fc.constantFrom(-1, 0, 0.6, 1, 3),
    earlyStopping: fc.constantFrom(true, false, "never" as const),
  });
  await check(
    fc.asyncProperty(searches, async ({ seed, ...options }) => {
      const limits = { ...options, stop: new Set(options.stop) };
      let search = START;
      while (!search.isDone) {
        const scores = search.open.map(({ ids }) => scoresOf(ids, size, seed));
        search = extend(search, scores, limits);
      }
      const expected = await slowBeamSearch(
        (ids) => scoresOf(ids, size, seed),
        { ...options, returned: options.beams },
      );
      assertEquals(search.finished, expected);
    }),
    500,
  );
});

Deno.test("a beam tells which of those before it goes on from", () => {
  const limits = { beams: 2, maxNewTokens: 9, stop: new Set<number>() };
  const first = extend(START, [[-1, -3, -2]], limits);
  assertEquals(first.open, [
    { ids: [0], sum: -1, parent: 0 },
    { ids: [2], sum: -2, parent: 0 },
  ]);
  const second = extend(first, [[-9, -9, -4], [-1, -9, -2]], limits);
  assertEquals(second.open, [
    { ids: [2, 0], sum: -3, parent: 1 },
    { ids: [2, 2], sum: -4, parent: 1 },
  ]);
});
