import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { random, tree } from "cotan";
import { generate, generateText, type GenerateTextOptions } from "cotan/nn";
import { assertNoLeaks } from "cotan/testing";
import { useOracle } from "../support.ts";
import { smallModel, type SmallParams } from "./support.ts";

Deno.test.beforeAll(useOracle);

const model = smallModel();
let params: SmallParams;
Deno.test.beforeAll(() => {
  params = model.init(random.key(3));
});

/** Ids 0 to 10 are letters from a on; k ends a text. */
const letters = {
  encode: (text: string) => Array.from(text, (c) => c.charCodeAt(0) - 97),
  decode: (ids: Iterable<number>) =>
    Array.from(ids, (id) => String.fromCharCode(97 + id)).join(""),
  eosId: null as number | null,
};
const run = (options: Partial<GenerateTextOptions> = {}, eosId = null) =>
  generateText(model, params, { ...letters, eosId }, "bfchd", {
    maxNewTokens: 12,
    ...options,
  });
const all = async (...args: Parameters<typeof run>) =>
  (await Array.fromAsync(run(...args))).join("");

Deno.test("text is that of the tokens", async () => {
  const ids = [1, 5, 2, 7, 3];
  const stream = generate(model, params, ids, { maxNewTokens: 12 });
  const expected = letters.decode(await Array.fromAsync(stream));
  assertEquals(await all(), expected);
  const given = generateText(model, params, letters, ids, { maxNewTokens: 12 });
  assertEquals((await Array.fromAsync(given)).join(""), expected);
});

Deno.test("a stop text ends the text before it, also where it spans tokens", async () => {
  const text = await all();
  for (let from = 0; from < text.length; from++) {
    for (const size of [1, 2, 3]) {
      const stop = text.slice(from, from + size);
      assertEquals(await all({ stop }), text.slice(0, text.indexOf(stop)));
    }
  }
  assertEquals(await all({ stop: ["zzz", text.slice(-2) + "zzz"] }), text);
});

Deno.test("a stop id ends the text and is not given out, and so is the end of text", async () => {
  const text = await all();
  const id = letters.encode(text)[5]!;
  const expected = text.slice(0, text.indexOf(text[5]!));
  assertEquals(await all({ stop: [id, "zzz"] }), expected);
  assertEquals(await all({}, id as never), expected);
});

Deno.test("an empty stop text is an error at the call", () => {
  assertThrows(
    () => run({ stop: ["a", ""] }),
    RangeError,
    "Cannot stop at an empty text: every text has it",
  );
});

Deno.test("wrong prompts and options are errors of generate at the call", () => {
  assertThrows(
    () => generateText(model, params, letters, "", { maxNewTokens: 1 }),
    RangeError,
    "Cannot generate after an empty prompt: start from the id that begins a text",
  );
  assertThrows(
    () => run({ temperature: 1 }),
    TypeError,
    "Cannot sample at temperature 1 without a key: pass random.key(seed), or temperature 0",
  );
});

Deno.test("text that is left early or ended by a signal leaves nothing", () =>
  assertNoLeaks(async () => {
    using key = random.key(3);
    const params = model.init(key);
    const controller = new AbortController();
    const { signal } = controller;
    const options = { maxNewTokens: 100, signal };
    const text = () => generateText(model, params, letters, "ab", options);
    for await (const piece of text()) {
      assert(piece);
      break;
    }
    await assertRejects(
      async () => {
        for await (const _ of text()) controller.abort();
      },
      DOMException,
      "abort",
    );
    for (const { leaf } of tree.leaves(params)) leaf.dispose();
  }));
