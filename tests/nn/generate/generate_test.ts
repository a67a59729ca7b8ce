import {
  assert,
  assertEquals,
  assertNotEquals,
  assertRejects,
  assertThrows,
} from "@std/assert";
import { memory, random, ShapeError, type Tensor } from "cotan";
import { generate, type GenerateOptions, llama } from "cotan/nn";
import { ids, useOracle } from "../support.ts";

Deno.test.beforeAll(useOracle);

const model = llama({
  vocab_size: 11,
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 160,
  initializer_range: 0.7,
});
type Params = ReturnType<typeof model.init>;
let params: Params;
let key: Tensor;
Deno.test.beforeAll(() => {
  params = model.init(random.key(3));
  key = random.key(2);
});

const prompt = [1, 5, 2, 7, 3];
const run = (options: GenerateOptions, start: readonly number[] = prompt) =>
  generate(model, params, start, options);

/** Greedy generation without a cache. */
async function greedy(
  start: readonly number[],
  count: number,
): Promise<number[]> {
  const all = [...start];
  for (let i = 0; i < count; i++) {
    const logits = model.apply(params, ids([all]));
    const last = logits.slice([null, [all.length - 1, all.length]]);
    all.push(await last.argmax().item());
  }
  return all.slice(start.length);
}

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
