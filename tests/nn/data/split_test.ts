import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { FormatError } from "../../../core/mod.ts";
import { type Example, holdOut } from "../../../nn/data/mod.ts";

const word = fc.stringMatching(/^[a-z]{1,3}$/);
const pairs = fc.array(fc.record({ prompt: word, completion: word }), {
  minLength: 2,
  maxLength: 60,
}).filter((list) => new Set(list.map(({ prompt }) => prompt)).size > 1);

const key = (example: Example): string => JSON.stringify(example);

Deno.test("nothing is lost or doubled, and both sides have something", () => {
  fc.assert(fc.property(pairs, (examples) => {
    const { train, valid } = holdOut(examples, { fraction: 0.1 });
    assert(train.length > 0 && valid.length > 0);
    assertEquals(
      [...train, ...valid].map(key).sort(),
      examples.map(key).sort(),
    );
  }));
});

Deno.test("no held-out prompt was trained on", () => {
  fc.assert(fc.property(pairs, (examples) => {
    const { train, valid } = holdOut(examples, { fraction: 0.5 });
    const prompts = (list: Example[]): Set<string> =>
      new Set(list.map((e) => "prompt" in e ? e.prompt : JSON.stringify(e)));
    assert(prompts(train).isDisjointFrom(prompts(valid)));
  }));
});

Deno.test("of many texts every n-th is held out", () => {
  const texts = Array.from({ length: 40 }, (_, i) => ({ text: String(i) }));
  const { valid } = holdOut(texts);
  assertEquals(valid, [{ text: "19" }, { text: "39" }]);
});

Deno.test("a single text gives up its end, from a line or a word on", () => {
  const line = "the first line\nthe second\nthe last";
  assertEquals(holdOut([{ text: line }], { fraction: 0.3 }), {
    train: [{ text: "the first line\n" }],
    valid: [{ text: "the second\nthe last" }],
  });
  assertEquals(holdOut([{ text: "one two three" }], { fraction: 0.3 }), {
    train: [{ text: "one two " }],
    valid: [{ text: "three" }],
  });
});

Deno.test("what cannot be split is refused", () => {
  assertThrows(
    () => holdOut([{ prompt: "a", completion: "b" }]),
    FormatError,
    "Cannot hold out examples: all have the same prompt; give held-out examples of their own",
  );
  assertThrows(
    () => holdOut([{ text: "a" }]),
    FormatError,
    "Cannot hold out the end of the text: it is too short; give held-out text of its own",
  );
  assertThrows(
    () => holdOut([], { fraction: 1 }),
    RangeError,
    "Cannot hold out a fraction 1: it must be above 0 and at most 0.5",
  );
});
