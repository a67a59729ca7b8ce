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

Deno.test("minP keeps those at least so many times as likely as the likeliest", () => {
  const p = fc.double({ min: 0, max: 1, noNaN: true });
  fc.assert(fc.property(logits, p, uniform, (list, minP, u) => {
    const chosen = chooseToken(list, { temperature: 2, minP }, u);
    const ratio = Math.exp((list[chosen]! - Math.max(...list)) / 2);
    assert(ratio >= minP);
  }));
  const kept = new Set(
    [0, 0.5, 0.99].map((u) =>
      chooseToken([3, 2.9, 0], { temperature: 1, minP: 0.5 }, u)
    ),
  );
  assertEquals([...kept].sort(), [0, 1]);
});

Deno.test("topP counts the probability that topK has left", () => {
  // 0.5 of all is 3 of these, and 0.5 of the three that topK keeps is two.
  const list = [0, 0, 0, 0, 0, 0], options = { temperature: 1, topP: 0.5 };
  const last = (topK: number) =>
    chooseToken(list, { ...options, topK }, 1 - 2 ** -24);
  assertEquals([last(6), last(3)], [2, 1]);
});

Deno.test("topP of many tokens is that of few", () => {
  const many = Array.from({ length: 2000 }, (_, i) => 4 * Math.sin(i * i));
  const order = ranked(many);
  for (const topP of [0.1, 0.5, 0.9]) {
    const weights = order.map((i) => Math.exp(many[i]!));
    const total = weights.reduce((a, b) => a + b, 0);
    let sum = 0, count = 0;
    while (sum < topP * total) sum += weights[count++]!;
    const kept = order.slice(0, count).sort((a, b) => a - b);
    const at = (u: number) => chooseToken(many, { temperature: 1, topP }, u);
    assertEquals([at(0), at(1 - 2 ** -24)], [kept[0], kept.at(-1)]);
    for (let u = 0; u < 1; u += 0.05) assert(kept.includes(at(u)));
  }
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

Deno.test("where no token is left the error says so", () => {
  assertThrows(
    () => chooseToken([-Infinity, -Infinity], {}, 0),
    RangeError,
    "Cannot choose a token: all logits are -Infinity, as where noRepeatNgram leaves no token",
  );
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
    [{ minP: -0.1 }, "minP -0.1: it must be from 0 to 1"],
    [{ minP: NaN }, "minP NaN: it must be from 0 to 1"],
    [
      { repetitionPenalty: 0 },
      "repetitionPenalty 0: it must be finite and above 0; 1 changes nothing",
    ],
    [
      { noRepeatNgram: 1.5 },
      "noRepeatNgram 1.5: it must be a non-negative integer; 0 changes nothing",
    ],
  ] as const;
  for (const [options, rule] of cases) {
    assertThrows(
      () => checkSampling(options),
      RangeError,
      `Cannot sample with ${rule}`,
    );
  }
});
