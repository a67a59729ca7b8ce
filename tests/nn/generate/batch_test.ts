import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { random, ShapeError, tree } from "cotan";
import { generate, generateBatch, type GenerateOptions } from "cotan/nn";
import { assertNoLeaks } from "cotan/testing";
import { eachBackend, inFloat64 } from "../../support/backends.ts";
import { smallModel } from "./support.ts";

const model = smallModel();
const prompts = [[1, 5, 2, 7, 3], [4], [
  ...Array.from({ length: 21 }, (_, i) => (i * i + 3) % 11),
], [4, 4]];

/** Asserts that each row is what its prompt alone gives. */
async function checkRows(
  prompts: readonly number[][],
  options: GenerateOptions,
): Promise<number[][]> {
  using seed = random.key(3);
  const params = model.init(seed);
  const rows = await generateBatch(model, params, prompts, options);
  for (const [i, prompt] of prompts.entries()) {
    const { key } = options;
    using own = random.foldIn(key ?? seed, i);
    const alone = generate(model, params, prompt, {
      ...options,
      ...key && { key: own },
    });
    assertEquals(rows[i], await Array.fromAsync(alone), `row ${i}`);
  }
  assertEquals(rows.length, prompts.length);
  return rows;
}

eachBackend("rows of unequal prompts are those of each alone", async () => {
  const rows = await checkRows(prompts, { maxNewTokens: 12 });
  assert(new Set(rows.map(String)).size > 2, "rows should differ");
});

inFloat64("rows of equal length, and a batch of one, too", async () => {
  await checkRows([[1, 2], [3, 4], [5, 6]], { maxNewTokens: 5 });
  await checkRows([[1, 2]], { maxNewTokens: 5 });
});

inFloat64("a row draws by the key of its number", async () => {
  using key = random.key(8);
  const options = { maxNewTokens: 12, temperature: 1.5, topK: 7, key };
  const rows = await checkRows([...prompts, [4], [4]], options);
  assert(rows[1]!.join() !== rows[4]!.join(), "keys of rows differ");
});

inFloat64("repetition counts the tokens of each row alone", async () => {
  const options = { repetitionPenalty: 1.6, noRepeatNgram: 2 };
  await checkRows(prompts, { maxNewTokens: 12, ...options });
});

inFloat64("rows end by themselves, and the others go on", async () => {
  const free = await checkRows(prompts, { maxNewTokens: 12 });
  for (const stop of new Set(free.map((row) => row[4]!))) {
    const rows = await checkRows(prompts, { maxNewTokens: 12, stop });
    rows.forEach((row, i) => {
      const end = free[i]!.indexOf(stop);
      assertEquals(row, end < 0 ? free[i] : free[i]!.slice(0, end + 1));
    });
  }
});

inFloat64("no prompt gives no row, and no token may be asked for", async () => {
  assertEquals(await checkRows([], { maxNewTokens: 3 }), []);
  assertEquals(await checkRows([[1], [2]], { maxNewTokens: 0 }), [[], []]);
});

inFloat64(
  "a batch leaves nothing, also where a signal ends it",
  () =>
    assertNoLeaks(async () => {
      using key = random.key(3);
      const params = model.init(key);
      const options = { maxNewTokens: 6, temperature: 1, key };
      await generateBatch(model, params, prompts, options);
      const signal = AbortSignal.abort(new Error("no more"));
      await assertRejects(
        () => generateBatch(model, params, prompts, { ...options, signal }),
        Error,
        "no more",
      );
      for (const { leaf } of tree.leaves(params)) leaf.dispose();
    }),
);

Deno.test("a wrong prompt is named by its row, at the call", () => {
  const call = (prompts: number[][], options: Partial<GenerateOptions> = {}) =>
    generateBatch(model, null as never, prompts, {
      maxNewTokens: 1,
      ...options,
    });
  assertThrows(
    () => call([[1], []]),
    RangeError,
    "Cannot generate after an empty prompt in row 1: start from the id that begins a text",
  );
  assertThrows(
    () => call([[-1]]),
    RangeError,
    "Cannot generate after id -1 in row 0: ids are integers from 0 to 10",
  );
  assertThrows(
    () => call([[1], [2, 3]], { maxNewTokens: 159 }),
    ShapeError,
    "Cannot generate 159 tokens after 2 in row 1: 161 positions exceed max_position_embeddings 160",
  );
  assertThrows(
    () => call([[1]], { temperature: 1 }),
    TypeError,
    "Cannot sample at temperature 1 without a key: pass random.key(seed), or temperature 0",
  );
  const { step: _step, cache: _cache, ...encoder } = model;
  assertThrows(
    () => generateBatch(encoder, null as never, [[1]], { maxNewTokens: 1 }),
    TypeError,
    "Cannot generate with a model that is no causal language model: it has no step",
  );
});
