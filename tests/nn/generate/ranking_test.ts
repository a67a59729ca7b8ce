import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { largest } from "../../../nn/generate/ranking.ts";
import { check } from "../../support/runs.ts";

const value = fc.oneof(
  fc.integer({ min: -3, max: 3 }),
  fc.constantFrom(-Infinity, NaN, 0.5),
);

Deno.test("the largest come first, the first of equals first, and NaN not at all", async () => {
  const values = fc.array(value, { maxLength: 400 });
  const count = fc.integer({ min: 0, max: 400 });
  const least = fc.constantFrom(-Infinity, -1, 2);
  await check(
    fc.property(values, count, least, (list, count, least) => {
      const expected = list.map((_, i) => i).filter((i) => list[i]! >= least)
        .sort((a, b) => list[a] === list[b] ? a - b : list[b]! - list[a]!);
      assertEquals(largest(list, count, least), expected.slice(0, count));
    }),
    100,
  );
});
