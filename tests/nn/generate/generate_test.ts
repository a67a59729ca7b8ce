import {
  assert,
  assertEquals,
  assertNotEquals,
  assertRejects,
  assertThrows,
} from "@std/assert";
import { memory, random, ShapeError, type Tensor, tree } from "cotan";
import { generate, type GenerateOptions } from "cotan/nn";
import { assertNoLeaks } from "cotan/testing";
import { holdBack } from "../../../nn/generate/processors.ts";
import { largest } from "../../../nn/generate/ranking.ts";
import { chooseToken } from "../../../nn/generate/sampling.ts";
import { eachBackend } from "../../support/backends.ts";
import { useOracle } from "../support.ts";
import {
  greedy as greedyOf,
  logitsOf,
  smallModel,
  type SmallParams,
} from "./support.ts";

Deno.test.beforeAll(useOracle);

const model = smallModel();
let params: SmallParams;
let key: Tensor;
Deno.test.beforeAll(() => {
  params = model.init(random.key(3));
  key = random.key(2);
});

const prompt = [1, 5, 2, 7, 3];
const run = (options: GenerateOptions, start: readonly number[] = prompt) =>
  generate(model, params, start, options);

const greedy = (start: readonly number[], count: number) =>
  greedyOf(model, params, start, count);

Deno.test("greedy generation takes the largest logit at each step", async () => {
  const expected = await greedy(prompt, 12);
  assert(new Set(expected).size > 2, "the model should not be trivial");
  assertEquals(await Array.fromAsync(run({ maxNewTokens: 12 })), expected);
});

Deno.test("prompts of one token, of whole chunks, and of chunks and a rest go in alike", async () => {
  for (const length of [1, 2, 16, 17, 128, 129, 150]) {
    const start = Array.from({ length }, (_, i) => (i * i + 3) % 11);
    const expected = await greedy(start, 3);
    assertEquals(
      await Array.fromAsync(run({ maxNewTokens: 3 }, start)),
      expected,
      `a prompt of ${length}`,
    );
  }
});

Deno.test("repetition is held back in prompt and new tokens alike", async () => {
  for (
    const options of [
      { repetitionPenalty: 1.5 },
      { noRepeatNgram: 2 },
      { repetitionPenalty: 1.2, noRepeatNgram: 3 },
    ]
  ) {
    const all = [...prompt];
    for (let i = 0; i < 12; i++) {
      const row = (await logitsOf(model, params, all)).at(-1)!;
      const held = holdBack(Float64Array.from(row), all, options);
      all.push(held.indexOf(Math.max(...held)));
    }
    const found = await Array.fromAsync(run({ maxNewTokens: 12, ...options }));
    assertEquals(found, all.slice(prompt.length));
    assertNotEquals(found, await greedy(prompt, 12));
  }
});

Deno.test("sampling draws by the number of foldIn(key, count) at each token", async () => {
  const options = { temperature: 1.5, topK: 6, topP: 0.9, minP: 0.05 };
  const all = [...prompt];
  for (let count = 0; count < 70; count++) {
    const row = (await logitsOf(model, params, all)).at(-1)!;
    using folded = random.foldIn(key, count);
    using uniform = random.uniform(folded, [1]);
    all.push(chooseToken(row, options, await uniform.item()));
  }
  const found = await Array.fromAsync(
    run({ maxNewTokens: 70, ...options, key }),
  );
  assertEquals(found, all.slice(prompt.length));
});

Deno.test("sampling depends on the key alone", async () => {
  const draw = (key: Tensor) =>
    Array.fromAsync(run({ maxNewTokens: 20, temperature: 2, key }));
  const first = await draw(key);
  assertEquals(await draw(key), first);
  assertNotEquals(await draw(random.key(3)), first);
  assertNotEquals(first, await greedy(prompt, 20));
});

Deno.test("sampling among one token is greedy", async () => {
  const expected = await greedy(prompt, 6);
  const options = { maxNewTokens: 6, temperature: 1, key };
  assertEquals(await Array.fromAsync(run({ ...options, topK: 1 })), expected);
  assertEquals(
    await Array.fromAsync(run({ ...options, topP: 1e-9 })),
    expected,
  );
});

Deno.test("generation ends with a stop id, which is given out", async () => {
  const all = await greedy(prompt, 12);
  const stop = all[5]!, end = all.indexOf(stop) + 1;
  for (const given of [stop, [stop]]) {
    const found = await Array.fromAsync(run({ maxNewTokens: 12, stop: given }));
    assertEquals(found, all.slice(0, end));
  }
});

Deno.test("no token may be asked for", async () => {
  assertEquals(await Array.fromAsync(run({ maxNewTokens: 0 })), []);
});

/** Runs twice; what is in use must not have changed since after the first time. */
async function assertNoLeak(f: () => Promise<void>): Promise<void> {
  await f(); // fills the cache of small programs
  const before = memory();
  await f();
  assertEquals(memory(), before);
}

Deno.test("a generation frees all that it made", async () => {
  const before = memory().tensors;
  await assertNoLeak(async () => {
    await Array.fromAsync(run({ maxNewTokens: 4, temperature: 1, key }));
  });
  assertEquals(memory().tensors, before);
});

Deno.test("a consumer may leave early, and all is freed", async () => {
  await assertNoLeak(async () => {
    for await (const id of run({ maxNewTokens: 100 })) {
      assert(id >= 0);
      break;
    }
  });
  await assertNoLeak(async () => {
    run({ maxNewTokens: 3 });
    await Promise.resolve();
  });
});

Deno.test("a signal ends the generation with its reason, and all is freed", async () => {
  await assertNoLeak(async () => {
    const controller = new AbortController();
    const found: number[] = [];
    await assertRejects(
      async () => {
        const { signal } = controller;
        for await (const id of run({ maxNewTokens: 100, signal })) {
          found.push(id);
          if (found.length === 3) controller.abort();
        }
      },
      DOMException,
      "abort",
    );
    assertEquals(found.length, 3);
  });
  const signal = AbortSignal.abort(new Error("no more"));
  await assertRejects(
    () => Array.fromAsync(run({ maxNewTokens: 1, signal })),
    Error,
    "no more",
  );
});

Deno.test("a timer can end a generation on the CPU", async () => {
  const signal = AbortSignal.timeout(50);
  await assertRejects(
    async () => {
      for (let i = 0; i < 1000; i++) {
        await Array.fromAsync(run({ maxNewTokens: 100, signal }));
      }
    },
    DOMException,
    "timeout",
  );
});

eachBackend("200 tokens with the cache are those without", async () => {
  const model = smallModel({
    max_position_embeddings: 256,
    vocab_size: 61,
    hidden_size: 16,
    initializer_range: 1.2,
    rope_theta: 100,
  });
  using key = random.key(7);
  const params = model.init(key);
  const start = [3, 1, 4, 1, 5, 9];
  const stream = generate(model, params, start, { maxNewTokens: 200 });
  const found = await Array.fromAsync(stream);
  assert(new Set(found).size > 20, "the model should not be trivial");
  // All logits come from one pass: the token behind each prefix is the largest of its last row.
  const rows = await logitsOf(model, params, [...start, ...found]);
  const best = rows.map((row) => largest(row, 2)).slice(start.length - 1, -1);
  assertEquals(found, best.map(([id]) => id));
  const gaps = best.map(([a, b], i) => {
    const row = rows[start.length - 1 + i]!;
    return row[a!]! - row[b!]!;
  });
  assert(Math.min(...gaps) > 0.01, "rounding should not decide");
});

eachBackend(
  "logits that are not finite are an error at their token",
  async () => {
    const model = smallModel();
    using key = random.key(5);
    const params = tree.map((leaf) => leaf.mul(NaN), model.init(key));
    for (const repetitionPenalty of [1, 2]) {
      const options = { maxNewTokens: 3, repetitionPenalty };
      await assertRejects(
        () => Array.fromAsync(generate(model, params, [1], options)),
        RangeError,
        "Cannot choose a token: the logit of ",
      );
    }
  },
);

eachBackend(
  "a generation leaves nothing on any backend, however it ends",
  () =>
    assertNoLeaks(async () => {
      const model = smallModel();
      using key = random.key(5);
      const params = model.init(key);
      const start = Array.from({ length: 20 }, (_, i) => i % 11);
      for (const options of [{}, { temperature: 1, key }]) {
        const stream = generate(model, params, start, {
          maxNewTokens: 40,
          ...options,
        });
        let count = 0;
        for await (const _ of stream) if (++count === 20) break;
      }
      for (const { leaf } of tree.leaves(params)) leaf.dispose();
    }),
);

Deno.test("wrong options are errors at the call", () => {
  const cases: [GenerateOptions, number[], string][] = [
    [
      { maxNewTokens: -1 },
      prompt,
      "Cannot generate -1 tokens: maxNewTokens must be a non-negative integer",
    ],
    [
      { maxNewTokens: 1 },
      [],
      "Cannot generate after an empty prompt: start from the id that begins a text",
    ],
    [
      { maxNewTokens: 1 },
      [11],
      "Cannot generate after id 11: ids are integers from 0 to 10",
    ],
    [
      { maxNewTokens: 1, stop: [1, 1.5] },
      prompt,
      "Cannot stop at id 1.5: ids are integers",
    ],
    [
      { maxNewTokens: 1, topP: 2 },
      prompt,
      "Cannot sample with topP 2: it must be above 0 and at most 1",
    ],
  ];
  for (const [options, start, message] of cases) {
    assertThrows(() => run(options, start), RangeError, message);
  }
  assertThrows(
    () => run({ maxNewTokens: 156 }),
    ShapeError,
    "Cannot generate 156 tokens after 5: 161 positions exceed max_position_embeddings 160",
  );
  assertThrows(
    () => run({ maxNewTokens: 1, temperature: 1 }),
    TypeError,
    "Cannot sample at temperature 1 without a key: pass random.key(seed), or temperature 0",
  );
});

Deno.test("a model that is not causal cannot generate", () => {
  const { step: _step, cache: _cache, ...encoder } = model;
  assertThrows(
    () => generate(encoder, params, prompt, { maxNewTokens: 1 }),
    TypeError,
    "Cannot generate with a model that is no causal language model: it has no step",
  );
});
