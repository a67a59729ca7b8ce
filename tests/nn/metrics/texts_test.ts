/**
 * Metrics of texts against values of the packages that they follow, and what holds of them.
 *
 * @module
 */

import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import fc from "fast-check";
import { ShapeError } from "cotan";
import { bleu, chrf, type References, rougeL } from "cotan/nn";
import { check } from "../../support/runs.ts";
import { throws } from "../../support/throws.ts";

/** Texts with references, and their BLEU and chrF. */
interface Case {
  readonly pairs: readonly (readonly [string, readonly string[]])[];
  readonly bleu: number;
  readonly chrf: number;
}

// Computed with sacrebleu 2 (github.com/mjpost/sacrebleu at f615c72): BLEU().corpus_score and CHRF().corpus_score. The
// first is the example of its README, 48.53.
const cases: Record<string, Case> = {
  "several references": {
    pairs: [
      [
        "The dog bit the man.",
        ["The dog bit the man.", "The dog had bit the man."],
      ],
      [
        "It wasn't surprising.",
        ["It was not unexpected.", "No one was surprised."],
      ],
      [
        "The man had just bitten him.",
        ["The man bit him first.", "The man had bitten the dog."],
      ],
    ],
    bleu: 48.530827009929865,
    chrf: 59.72751782684763,
  },
  "numbers, entities and punctuation": {
    pairs: [[
      "Costs $3.50, i.e. 1,000 &amp; more (20-30%) &quot;now&quot;—really!",
      ['It costs 3.50 $, i.e. 1,000 & more: 20-30 % "now" — really.'],
    ]],
    bleu: 47.825435178815006,
    chrf: 47.69182571018295,
  },
  "orders without a match": {
    pairs: [["a quick test of some words", ["some test of quick words here"]]],
    bleu: 20.412414523193146,
    chrf: 46.37438299700773,
  },
  "words that occur too often": {
    pairs: [[
      "the cat the cat on mat",
      ["the cat sat on the mat today", "a cat was on the mat"],
    ]],
    bleu: 20.412414523193146,
    chrf: 38.13513010441342,
  },
  "no run of four words": {
    pairs: [["the cat sat", ["the cat sat"]]],
    bleu: 0,
    chrf: 100,
  },
  "no common word": {
    pairs: [["one two three four five", ["six seven eight nine ten"]]],
    bleu: 0,
    chrf: 12.013418500640162,
  },
  "characters beyond ASCII and beyond 16 bits": {
    pairs: [
      [
        "Co nás nejvíc trápí 😀 ok, protože lékaři?",
        ["Nejvíce smutní jsme 😀 ok, protože lékaři."],
      ],
      ["naïve café\u00a0latte  x", ["naïve  cafe latte x y"]],
    ],
    bleu: 36.55552228545125,
    chrf: 57.52505252656604,
  },
  "brevity, line ends and dashes": {
    pairs: [
      ["the cat sat on the", ["the cat sat on the mat with a hat"]],
      ["a-\nb 5- 6-7 v.2 3.x ,y", ["a b 5 - 6 - 7 v.2 3.x , y"]],
    ],
    bleu: 71.95784314697242,
    chrf: 69.8191133113836,
  },
  "as many references as there are": {
    pairs: [
      ["restaurant The Punter serves cheap food", [
        "The Punter is a cheap restaurant",
        "cheap food is served at restaurant The Punter",
        "The Punter serves cheap food",
      ]],
      ["it is near the river", ["near the river it is"]],
    ],
    bleu: 70.98962112020108,
    chrf: 87.82876431537021,
  },
  "a reference too short for every order": {
    pairs: [["a long text here", ["a l"]], ["abcdef x", ["abcdef"]]],
    bleu: 15.973577606156818,
    chrf: 87.12121212121212,
  },
  "an empty text": {
    pairs: [
      ["", ["some words are here now"]],
      ["some words are here now", ["some words are here now"]],
    ],
    bleu: 36.78794411714425,
    chrf: 55.55555555555556,
  },
};

for (const [name, expected] of Object.entries(cases)) {
  Deno.test(`bleu and chrf are sacrebleu's: ${name}`, () => {
    const texts = expected.pairs.map(([text]) => text);
    const references = expected.pairs.map(([, list]) => list);
    assertAlmostEquals(bleu(texts, references), expected.bleu, 1e-10);
    assertAlmostEquals(chrf(texts, references), expected.chrf, 1e-10);
  });
}

Deno.test("chrf is as sacrebleu's own tests want it", () => {
  // test/test_chrf.py, with effective order; precision and recall are equal, so that beta does not matter.
  assertEquals(chrf(["a", "b"], ["a", "c"]), 50);
  assertEquals(chrf(["aa"], ["ab"]), 25);
  assertEquals(chrf(["a b c"], ["abc"]), 100);
  assertEquals(chrf([""], ["reference"]), 0);
});

Deno.test("rougeL is as rouge_score's own tests want it", () => {
  // rouge_scorer_test.py of google-research: fmeasure of rougeL.
  const target = "testing one two";
  assertAlmostEquals(rougeL(["testing one"], [target]), 4 / 5, 1e-15);
  assertAlmostEquals(rougeL(["testing two"], [target]), 4 / 5, 1e-15);
  assertEquals(rougeL([""], [target]), 0);
  assertEquals(rougeL(["/"], [target]), 0);
  // ref 1 2 3 4 5, candidate 2 5 3 4: a common subsequence of 3.
  assertAlmostEquals(rougeL(["2 5 3 4"], ["1 2 3 4 5"]), 2 * 3 / 9, 1e-15);
  // By hand: words of "It's 5%" are it, s, 5; of six and three words, two are common.
  const scores = rougeL(["It's 5%", "a b c d e f"], ["it was 5", "f b e"]);
  assertAlmostEquals(scores, (2 * 2 / 6 + 2 * 2 / 9) / 2, 1e-15);
  assertEquals(rougeL(["a b"], [["c", "A, b"]]), 1);
});

/** A text of a few words. */
const text = fc.array(
  fc.constantFrom("the", "cat", "sat.", "on", "3,5", "mat", "(a", "b-c", "é"),
  { maxLength: 10 },
).map((words) => words.join(" "));

const pairs = fc.array(fc.tuple(text, fc.array(text, { minLength: 1 })), {
  minLength: 1,
  maxLength: 4,
});

const metrics = { bleu, chrf, rougeL };

Deno.test("metrics of texts are in range, and the order of texts and references is none of theirs", () =>
  check(
    fc.property(pairs, (pairs) => {
      const texts = pairs.map(([text]) => text);
      const references: References = pairs.map(([, list]) => list);
      for (const [name, metric] of Object.entries(metrics)) {
        const value = metric(texts, references);
        const most = metric === rougeL ? 1 : 100;
        assert(value >= 0 && value <= most * (1 + 1e-12), name);
        const turned = metric(texts.toReversed(), references.toReversed());
        assertAlmostEquals(turned, value, 1e-9, name);
        // Of references that are equally good chrf takes the first.
        if (metric === chrf) continue;
        const mixed = pairs.map(([, list]) => list.toReversed());
        assertAlmostEquals(metric(texts, mixed), value, 1e-9, name);
      }
    }),
    40,
  ));

Deno.test("a text that is one of its references has the most", () =>
  check(
    fc.property(pairs, (pairs) => {
      const texts = ["the cat sat on", ...pairs.map(([, list]) => list[0]!)]
        .filter((t) => /[a-z0-9]/.test(t));
      assertAlmostEquals(bleu(texts, texts), 100, 1e-9);
      assertAlmostEquals(chrf(texts, texts), 100, 1e-9);
      assertAlmostEquals(rougeL(texts, texts), 1, 1e-12);
    }),
    20,
  ));

Deno.test("rougeL of one reference is symmetric", () =>
  check(
    fc.property(text, text, (a, b) => {
      assertAlmostEquals(rougeL([a], [b]), rougeL([b], [a]), 1e-12);
    }),
    40,
  ));

throws("texts without references are errors", ShapeError, [
  [
    () => bleu(["a", "b"], ["a"]),
    "Cannot compare 2 texts with 1 references: there must be as many",
  ],
  [
    () => chrf(["a", "b"], ["a", []]),
    "Cannot compare text 1 with no reference: there must be one or more",
  ],
  [
    () => rougeL([], []),
    "Cannot compare no texts with no references: there must be some",
  ],
]);
