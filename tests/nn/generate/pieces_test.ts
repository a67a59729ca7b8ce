import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { createTokenizer, loadTokenizer, type Tokenizer } from "cotan/nn";
import {
  tokenizerConfigJson,
  tokenizerJson,
  trainBpe,
} from "../../../nn/data/mod.ts";
import { textOf, untilStop } from "../../../nn/generate/pieces.ts";
import { goldenUrl, hasGolden } from "../../support/golden.ts";
import { check } from "../../support/runs.ts";

/** A tokenizer of bytes and a few pairs of them. */
function bytesTokenizer(): Promise<Tokenizer> {
  const bpe = trainBpe(["the thé the 你好 🙂🙂"], { vocabSize: 270 });
  return createTokenizer(tokenizerJson(bpe), tokenizerConfigJson(bpe));
}

/** Asserts that pieces are whole, and together what the tokens add to the prompt. */
async function checkPieces(
  tokenizer: Tokenizer,
  given: fc.Arbitrary<{ prompt: string; text: string }>,
): Promise<void> {
  await check(
    fc.property(given, ({ prompt, text }) => {
      const ids = tokenizer.encode(prompt);
      const decode = (ids: Iterable<number>) => tokenizer.decode(ids);
      const pieces = textOf(decode, ids);
      const added = tokenizer.encode(text, { addSpecial: false });
      const found = [...added.map((id) => pieces.push(id)), pieces.rest()];
      for (const piece of found) assert(piece.isWellFormed());
      const whole = decode([...ids, ...added]);
      assertEquals(decode(ids) + found.join(""), whole);
    }),
    100,
  );
}

const texts = fc.record({
  prompt: fc.string({ unit: "grapheme", maxLength: 6 }),
  text: fc.string({ unit: "grapheme", maxLength: 12 }),
});

Deno.test("pieces of byte-level tokens are the text of all tokens", async () => {
  await checkPieces(await bytesTokenizer(), texts);
});

Deno.test({
  name: "pieces of a tokenizer that falls back to bytes are, too",
  ignore: !hasGolden,
  fn: async () => {
    const folder = goldenUrl("data/stories260K/hf-converted");
    await checkPieces(await loadTokenizer(folder), texts);
  },
});

Deno.test("a character of several tokens comes with the last of them", async () => {
  const { encode, decode } = await createTokenizer(
    tokenizerJson(trainBpe([], { vocabSize: 258 })),
  );
  const bytes = encode("a🙂b", { addSpecial: false });
  assertEquals(bytes.length, 6);
  const pieces = textOf((ids) => decode(ids), []);
  const found = bytes.map((id) => pieces.push(id));
  assertEquals(found, ["a", "", "", "", "🙂", "b"]);
});

Deno.test("a character that stays incomplete is left out", async () => {
  const { encode, decode } = await createTokenizer(
    tokenizerJson(trainBpe([], { vocabSize: 258 })),
  );
  const pieces = textOf((ids) => decode(ids), []);
  const [a, ...bytes] = encode("a你", { addSpecial: false });
  const found = [a!, ...bytes.slice(0, 2)].map((id) => pieces.push(id));
  assertEquals([...found, pieces.rest()], ["a", "", "", ""]);
});

Deno.test("bytes that are no character come as replacements when a character follows", async () => {
  const { encode, decode } = await createTokenizer(
    tokenizerJson(trainBpe([], { vocabSize: 258 })),
  );
  const pieces = textOf((ids) => decode(ids), []);
  const [first] = encode("你", { addSpecial: false });
  const [b] = encode("b", { addSpecial: false });
  assertEquals([pieces.push(first!), pieces.push(b!)], ["", "\uFFFDb"]);
});

/** The text before the stop text that is complete first. */
function before(text: string, stop: readonly string[]): string {
  for (let end = 1; end <= text.length; end++) {
    const so = text.slice(0, end);
    const found = stop.filter((s) => so.endsWith(s));
    if (found.length > 0) {
      return so.slice(0, end - Math.max(...found.map((s) => s.length)));
    }
  }
  return text;
}

Deno.test("text passes up to the first stop text, however it is cut", async () => {
  const letters = (most: number) =>
    fc.string({
      unit: fc.constantFrom("a", "b"),
      minLength: 1,
      maxLength: most,
    });
  const parts = fc.array(letters(5), { maxLength: 8 });
  const stops = fc.array(letters(4), { maxLength: 3 });
  await check(
    fc.property(parts, stops, (parts, stop) => {
      const passing = untilStop(stop);
      const out: string[] = [];
      let given = "";
      for (const part of parts) {
        given += part;
        out.push(passing.push(part));
        const held = given.length - out.join("").length;
        const longest = Math.max(0, ...stop.map((s) => s.length - 1));
        if (!passing.hasEnded()) assert(held <= longest, "no more is held");
      }
      const expected = before(given, stop);
      assertEquals(passing.hasEnded(), expected !== given);
      assertEquals(out.join("") + passing.rest(), expected);
    }),
    300,
  );
});
