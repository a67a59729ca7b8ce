import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { createTokenizer } from "../../../nn/checkpoint/mod.ts";
import {
  tokenizerConfigJson,
  tokenizerJson,
  trainBpe,
} from "../../../nn/data/mod.ts";

const corpus = [
  "The pale Usher, threadbare in coat, heart, body, and brain; I see him now.",
  "He loved to dust his old grammars; it somehow mildly reminded him of his mortality.",
];
const bpe = trainBpe(corpus, { vocabSize: 275 });
const tokenizer = await createTokenizer(
  { ...tokenizerJson(bpe) },
  { ...tokenizerConfigJson(bpe) },
);

Deno.test("every text comes back from its tokens", () => {
  const text = fc.oneof(
    fc.string({ unit: "binary" }).filter((s) => s.isWellFormed()),
    fc.string({ unit: fc.constantFrom(..."the his's \n\t  é🐋".split("")) })
      .filter((s) => s.isWellFormed()),
  );
  fc.assert(fc.property(text, (text) => {
    assertEquals(tokenizer.decode(tokenizer.encode(text)), text);
  }));
});

Deno.test("ids are the special tokens, the bytes, then the merges in order", () => {
  const entries = Object.entries(bpe.vocab).sort(([, a], [, b]) => a - b);
  const tokens = entries.map(([token]) => token);
  assertEquals(tokens.length, 275);
  assertEquals(entries.map(([, id]) => id), tokens.map((_, i) => i));
  assertEquals(tokens.slice(0, 2), ["<s>", "</s>"]);
  assertEquals(tokens.slice(258), bpe.merges.map((pair) => pair.join("")));
  assertEquals([tokenizer.bosId, tokenizer.eosId], [0, 1]);
});

Deno.test("a text begins with the begin token, unless it is not wanted", () => {
  assertEquals(tokenizer.encode("him")[0], tokenizer.bosId);
  assertEquals(tokenizer.encode("", { addSpecial: false }), []);
});

Deno.test("the library joins what the trainer joined", () => {
  const tokens = tokenizer.encode("The heart", { addSpecial: false })
    .map((id) => tokenizer.idToToken(id));
  assertEquals(tokens, ["T", "he", "Ġh", "e", "ar", "t"]);
});

Deno.test("training depends on the counts of words, not on their order", () => {
  const words = corpus.join(" ").split(" ");
  const shuffled = words.toSorted();
  const train = (list: string[]) =>
    trainBpe(list.map((w) => ` ${w}`), { vocabSize: 290 }).merges;
  assertEquals(train(words), train(shuffled));
});

Deno.test("merges end where no pair occurs twice", () => {
  const { merges, vocab } = trainBpe(["abcabd"], { vocabSize: 1000 });
  assertEquals(merges, [["a", "b"]]);
  assertEquals(Object.keys(vocab).length, 259);
});

Deno.test("overlapping pairs are joined from the left", () => {
  const { merges } = trainBpe(["aaaaa aaaaa"], { vocabSize: 261 });
  assertEquals(merges, [["a", "a"], ["aa", "a"], ["aa", "aaa"]]);
});

Deno.test("a vocabulary without room for the bytes is refused", () => {
  assertThrows(
    () => trainBpe(corpus, { vocabSize: 200 }),
    RangeError,
    "Cannot train a tokenizer of 200 tokens: the 256 bytes and 2 special tokens alone are 258",
  );
});
