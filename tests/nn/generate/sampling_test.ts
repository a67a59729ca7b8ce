import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { checkSampling, chooseToken } from "../../../nn/generate/sampling.ts";

const logits = fc.array(fc.integer({ min: -4, max: 4 }), {
  minLength: 1,
  maxLength: 8,
});
const uniform = fc.double({ min: 0, max: 1 - 2 ** -24, noNaN: true });

/** Indices from the most likely to the least, the first of equals first. */
const ranked = (logits: readonly number[]) =>
  logits.map((_, i) => i).sort((a, b) => logits[b]! - logits[a]! || a - b);

Deno.test("without a temperature the first of the largest logits is chosen", () => {
  assertEquals(chooseToken([1, 3, 3, -Infinity], {}, 0.9), 1);
  fc.assert(fc.property(logits, uniform, (list, u) => {
    assertEquals(chooseToken(list, {}, u), list.indexOf(Math.max(...list)));
  }));
});

Deno.test("topK keeps the K most likely, the first of equals", () => {
  const k = fc.integer({ min: 1, max: 8 });
  fc.assert(fc.property(logits, k, uniform, (list, topK, u) => {
    const chosen = chooseToken(list, { temperature: 1, topK }, u);
    assert(ranked(list).slice(0, topK).includes(chosen));
  }));
});

Deno.test("topP keeps the fewest that reach the probability", () => {
  const p = fc.double({ min: 0.01, max: 1, noNaN: true });
  fc.assert(fc.property(logits, p, uniform, (list, topP, u) => {
    const weights = list.map((v) => Math.exp(v));
    const total = weights.reduce((a, b) => a + b, 0);
    const kept: number[] = [];
    let sum = 0;
    for (const i of ranked(list)) {
      if (sum >= topP * total * (1 + 1e-12)) break;
      kept.push(i);
      sum += weights[i]!;
    }
    assert(kept.includes(chooseToken(list, { temperature: 1, topP }, u)));
  }));
});

Deno.test("tokens are drawn in proportion to exp(logit / temperature)", () => {
  const list = [0, 1, 2], temperature = 0.5, draws = 10000;
  const counts = [0, 0, 0];
  for (let i = 0; i < draws; i++) {
    counts[chooseToken(list, { temperature }, (i + 0.5) / draws)]!++;
  }
  const weights = list.map((v) => Math.exp(v / temperature));
  const total = weights.reduce((a, b) => a + b, 0);
  weights.forEach((w, i) =>
    assert(Math.abs(counts[i]! - draws * w / total) <= 1)
  );
});

Deno.test("a token of logit -Infinity is never drawn", () => {
  const list = [-Infinity, 0, -Infinity];
  for (const u of [0, 0.5, 1 - 2 ** -24]) {
    assertEquals(chooseToken(list, { temperature: 9 }, u), 1);
  }
});

Deno.test("logits that are not finite are an error, not a token", () => {
  for (
    const [list, value] of [[[1, NaN], "NaN"], [
      [1, Infinity],
      "Infinity",
    ]] as const
  ) {
    assertThrows(
      () => chooseToken(list, {}, 0),
      RangeError,
      `Cannot choose a token: the logit of 1 is ${value}`,
    );
  }
});

Deno.test("options out of range are errors", () => {
  const cases = [
    [
      { temperature: -1 },
      "temperature -1: it must be finite and not negative; 0 takes the most likely",
    ],
    [{ topK: 0 }, "topK 0: it must be an integer of at least 1"],
    [{ topK: 1.5 }, "topK 1.5: it must be an integer of at least 1"],
    [{ topP: 0 }, "topP 0: it must be above 0 and at most 1"],
    [{ topP: 1.1 }, "topP 1.1: it must be above 0 and at most 1"],
  ] as const;
  for (const [options, rule] of cases) {
    assertThrows(
      () => checkSampling(options),
      RangeError,
      `Cannot sample with ${rule}`,
    );
  }
});
