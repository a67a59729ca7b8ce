import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { holdBack } from "../../../nn/generate/processors.ts";
import { check } from "../../support/runs.ts";

Deno.test("without options scores stay as they are", () => {
  const scores = Float32Array.of(1, -1);
  assertEquals(holdBack(scores, [0, 1], {}), scores);
});

Deno.test("the penalty divides positive scores of tokens that were there and multiplies negative ones, once", () => {
  const scores = Float32Array.of(4, -4, 4, -4, 0);
  const found = holdBack(scores, [0, 1, 1, 0, 4], { repetitionPenalty: 2 });
  assertEquals([...found], [2, -8, 4, -4, 0]);
  assertEquals([...scores], [4, -4, 4, -4, 0], "the input is not changed");
  const less = holdBack(scores, [0, 1], { repetitionPenalty: 0.5 });
  assertEquals([...less], [8, -2, 4, -4, 0]);
});

Deno.test("the penalty comes before sequences are held back", () => {
  const options = { repetitionPenalty: 2, noRepeatNgram: 1 };
  const found = holdBack(Float32Array.of(4, -4, 3), [0, 1], options);
  assertEquals([...found], [-Infinity, -Infinity, 3]);
});

/** Whether a sequence has n tokens that stand in it twice. */
function repeats(ids: readonly number[], n: number): boolean {
  const grams = ids.slice(n - 1).map((_, i) => ids.slice(i, i + n).join());
  return new Set(grams).size < grams.length;
}

Deno.test("exactly the tokens that would repeat a sequence are held back", async () => {
  const size = 4;
  const id = fc.integer({ min: 0, max: size - 1 });
  const ids = fc.array(id, { maxLength: 12 });
  await check(
    fc.property(ids, fc.integer({ min: 1, max: 4 }), (ids, noRepeatNgram) => {
      const scores = new Float32Array(size);
      const found = holdBack(scores, ids, { noRepeatNgram });
      found.forEach((score, id) => {
        const last = ids.slice(ids.length - noRepeatNgram + 1 || ids.length);
        const gram = [...last, id].slice(-noRepeatNgram).join();
        const before = ids.slice(noRepeatNgram - 1)
          .map((_, i) => ids.slice(i, i + noRepeatNgram).join());
        const isKnown = ids.length + 1 >= noRepeatNgram &&
          before.includes(gram);
        assertEquals(score === -Infinity, isKnown);
      });
    }),
    100,
  );
});

Deno.test("a sequence grown from what is left never repeats", async () => {
  const draws = fc.array(fc.nat(), { minLength: 20, maxLength: 20 });
  await check(
    fc.property(draws, fc.integer({ min: 2, max: 3 }), (draws, n) => {
      const ids: number[] = [];
      for (const draw of draws) {
        const scores = holdBack(new Float32Array(5), ids, { noRepeatNgram: n });
        const left = [...scores.keys()].filter((i) => scores[i] === 0);
        if (left.length === 0) break;
        ids.push(left[draw % left.length]!);
      }
      assert(!repeats(ids, n));
    }),
    50,
  );
});
