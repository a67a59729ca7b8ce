import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertRejects,
  assertThrows,
} from "@std/assert";
import fc from "fast-check";
import { random, ShapeError, tree } from "cotan";
import {
  beamSearch,
  type BeamSearchOptions,
  generate,
  type Hypothesis,
} from "cotan/nn";
import { assertNoLeaks } from "cotan/testing";
import { holdBack } from "../../../nn/generate/processors.ts";
import { eachBackend, inFloat64 } from "../../support/backends.ts";
import { check, isFull } from "../../support/runs.ts";
import { slowBeamSearch } from "./slow_beam_search.ts";
import { logitsOf, smallModel, type SmallParams } from "./support.ts";

const model = smallModel();
const prompt = [1, 5, 2, 7, 3];

/** Log-probabilities of the next token, as the penalties leave them. */
async function scoresAfter(
  params: SmallParams,
  ids: readonly number[],
  options: BeamSearchOptions,
): Promise<number[]> {
  const row = (await logitsOf(model, params, ids)).at(-1)!;
  const total = Math.log(row.reduce((sum, x) => sum + Math.exp(x), 0));
  const logProbs = Float64Array.from(row, (x) => x - total);
  return [...holdBack(logProbs, ids, options)];
}

/** The search without a cache: each sequence is computed anew. */
function withoutCache(
  params: SmallParams,
  start: readonly number[],
  options: BeamSearchOptions,
): Promise<Hypothesis[]> {
  return slowBeamSearch(
    (ids) => scoresAfter(params, [...start, ...ids], options),
    options,
  );
}

function assertSame(found: Hypothesis[], expected: Hypothesis[]): void {
  assertEquals(found.map(({ ids }) => ids), expected.map(({ ids }) => ids));
  found.forEach(({ score }, i) =>
    assertAlmostEquals(score, expected[i]!.score, 1e-4)
  );
}

eachBackend("beams are those of a slow search without a cache", async () => {
  using key = random.key(3);
  const params = model.init(key);
  const options: BeamSearchOptions[] = [
    { beams: 3, maxNewTokens: 6, returned: 3 },
    { beams: 4, maxNewTokens: 7, stop: [2, 9], returned: 4 },
  ];
  for (const each of options) {
    const found = await beamSearch(model, params, prompt, each);
    assertSame(found, await withoutCache(params, prompt, each));
  }
});

inFloat64("so are they with every option", async () => {
  const searches = fc.record({
    seed: fc.integer({ min: 0, max: 99 }),
    start: fc.array(fc.integer({ min: 0, max: 10 }), {
      minLength: 1,
      maxLength: 20,
    }),
    beams: fc.integer({ min: 1, max: 5 }),
    maxNewTokens: fc.integer({ min: 1, max: 6 }),
    stop: fc.uniqueArray(fc.integer({ min: 0, max: 10 }), { maxLength: 4 }),
    lengthPenalty: fc.constantFrom(-1, 0, 0.6, 1, 2),
    earlyStopping: fc.constantFrom(true, false, "never" as const),
    noRepeatNgram: fc.constantFrom(0, 0, 2, 3),
    repetitionPenalty: fc.constantFrom(1, 1.3),
  });
  await check(
    fc.asyncProperty(searches, async ({ seed, start, ...given }) => {
      const options = { ...given, returned: given.beams };
      using key = random.key(seed);
      const params = model.init(key);
      const found = await beamSearch(model, params, start, options);
      assertSame(found, await withoutCache(params, start, options));
      for (const { leaf } of tree.leaves(params)) leaf.dispose();
    }),
    12,
  );
});

inFloat64("one beam is greedy generation", async () => {
  using key = random.key(3);
  const params = model.init(key);
  for (const start of [prompt, [4], [6, 6]]) {
    const stream = generate(model, params, start, { maxNewTokens: 10 });
    const greedy = await Array.fromAsync(stream);
    for (const stop of [[], greedy[6]!]) {
      const options = { beams: 1, maxNewTokens: 10, stop };
      const [found] = await beamSearch(model, params, start, options);
      const end = typeof stop === "number" ? greedy.indexOf(stop) + 1 : 10;
      assertEquals(found!.ids, greedy.slice(0, end));
    }
  }
});

inFloat64("as many beams as sequences find the best of all", async () => {
  const V = 4, n = isFull ? 4 : 3;
  const model = smallModel({ vocab_size: V });
  for (const seed of [1, 2, 3]) {
    using key = random.key(seed);
    const params = model.init(key);
    const sequences = Array.from(
      { length: V ** n },
      (_, i) => Array.from({ length: n }, (_, j) => Math.floor(i / V ** j) % V),
    );
    const scored = await Promise.all(sequences.map(async (ids) => {
      const rows = await logitsOf(model, params, [1, 2, ...ids]);
      const score = ids.reduce((sum, id, i) => {
        const row = rows[i + 1]!;
        const total = Math.log(row.reduce((s, x) => s + Math.exp(x), 0));
        return sum + row[id]! - total;
      }, 0);
      return { ids, score };
    }));
    scored.sort((a, b) => b.score - a.score);
    const found = await beamSearch(model, params, [1, 2], {
      beams: V ** n,
      maxNewTokens: n,
      lengthPenalty: 0,
      returned: V ** n,
    });
    assertSame(found, scored);
    const stream = generate(model, params, [1, 2], { maxNewTokens: n });
    const greedy = (await Array.fromAsync(stream)).join();
    const ofGreedy = scored.find(({ ids }) => ids.join() === greedy)!.score;
    assert(found[0]!.score >= ofGreedy - 1e-9);
  }
});

inFloat64("noRepeatNgram lets no sequence come twice", async () => {
  using key = random.key(3);
  const params = model.init(key);
  for (const noRepeatNgram of [1, 2, 3]) {
    const options = { beams: 3, maxNewTokens: 10, noRepeatNgram, returned: 3 };
    for (const { ids } of await beamSearch(model, params, [4], options)) {
      const all = [4, ...ids];
      const grams = all.slice(noRepeatNgram - 1)
        .map((_, i) => all.slice(i, i + noRepeatNgram).join());
      assertEquals(new Set(grams).size, grams.length);
    }
  }
  await assertRejects(
    () =>
      beamSearch(model, params, [4], {
        beams: 2,
        maxNewTokens: 30,
        noRepeatNgram: 1,
      }),
    RangeError,
    "Cannot search on after 10 tokens: noRepeatNgram leaves none",
  );
});

inFloat64("a search without a token gives the empty continuation", async () => {
  using key = random.key(3);
  const params = model.init(key);
  const options = { beams: 2, maxNewTokens: 0 };
  assertEquals(await beamSearch(model, params, [4], options), [
    { ids: [], score: 0 },
  ]);
});

eachBackend(
  "a search leaves nothing, also where it fails",
  () =>
    assertNoLeaks(async () => {
      using key = random.key(3);
      const params = model.init(key);
      const options = { beams: 3, maxNewTokens: 4 };
      await beamSearch(model, params, prompt, options);
      const signal = AbortSignal.abort(new Error("no more"));
      await assertRejects(
        () => beamSearch(model, params, prompt, { ...options, signal }),
        Error,
        "no more",
      );
      const broken = tree.map((leaf) => leaf.mul(NaN), params);
      await assertRejects(
        () => beamSearch(model, broken, prompt, options),
        RangeError,
        "Cannot search on: the log-probabilities are NaN, since a logit is NaN or Infinity",
      );
      for (const { leaf } of tree.leaves([params, broken])) leaf.dispose();
    }),
);

Deno.test("a search refuses options out of range at the call", () => {
  const call = (options: Partial<BeamSearchOptions>, start = [1]) =>
    beamSearch(model, null as never, start, {
      beams: 2,
      maxNewTokens: 1,
      ...options,
    });
  const cases: [Partial<BeamSearchOptions>, string][] = [
    [
      { beams: 0 },
      "Cannot search with 0 beams: there must be at least 1, a whole number",
    ],
    [
      { returned: 3 },
      "Cannot search with returned 3: it must be an integer from 1 to the number of beams, 2",
    ],
    [
      { lengthPenalty: NaN },
      "Cannot search with lengthPenalty NaN: it must be finite",
    ],
    [
      { earlyStopping: "no" as never },
      'Cannot search with earlyStopping no: it must be true, false or "never"',
    ],
    [
      { repetitionPenalty: -1 },
      "Cannot sample with repetitionPenalty -1: it must be finite and above 0; 1 changes nothing",
    ],
    [
      { maxNewTokens: 0.5 },
      "Cannot generate 0.5 tokens: maxNewTokens must be a non-negative integer",
    ],
  ];
  for (const [options, message] of cases) {
    assertThrows(() => call(options), RangeError, message);
  }
  assertThrows(
    () => call({}, []),
    RangeError,
    "Cannot generate after an empty prompt: start from the id that begins a text",
  );
  assertThrows(
    () => call({ maxNewTokens: 160 }),
    ShapeError,
    "Cannot generate 160 tokens after 1: 161 positions exceed max_position_embeddings 160",
  );
  const { step: _step, cache: _cache, ...encoder } = model;
  assertThrows(
    () =>
      beamSearch(encoder, null as never, [1], { beams: 1, maxNewTokens: 1 }),
    TypeError,
    "Cannot generate with a model that is no causal language model: it has no step",
  );
});
