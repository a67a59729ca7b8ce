import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  type Example,
  promptIds,
  rowLengths,
  type RowOptions,
  toRows,
} from "../../../nn/data/mod.ts";

const BOS = 1, EOS = 2;

/** A token for each character. */
const letters = {
  encode: (text: string) => [...text].map((c) => c.codePointAt(0)!),
  bosId: BOS,
  eosId: EOS,
};

const codes = (text: string): number[] => letters.encode(text);

function row(
  example: Example,
  options: RowOptions,
): { ids: number[]; labels: number[] } {
  const { ids, labels } = toRows([example], letters, options).at(0);
  return { ids: [...ids], labels: [...labels] };
}

const pair = { prompt: "ab", completion: "c" };

Deno.test("a pair is begin, prompt, separator, completion, end, and padding without labels", () => {
  const all = [BOS, ...codes("ab => c"), EOS];
  assertEquals(row(pair, { seq: 10 }), {
    ids: [...all, EOS],
    labels: [...all.slice(1), -100, -100],
  });
});

Deno.test("a pair that is too long is cut, and its last position still has a label", () => {
  const all = [BOS, ...codes("ab => c"), EOS];
  assertEquals(row(pair, { seq: 4 }), {
    ids: all.slice(0, 4),
    labels: all.slice(1, 5),
  });
});

Deno.test("with completionOnly labels begin at the completion, its space included", () => {
  const { labels } = row(pair, { seq: 10, completionOnly: true });
  assertEquals(labels.filter((label) => label !== -100), [...codes(" c"), EOS]);
  assertEquals(
    labels.indexOf(codes(" ")[0]!),
    promptIds("ab", letters).length - 1,
  );
});

Deno.test("the separator is the caller's choice", () => {
  const { ids } = row(pair, { seq: 6, separator: ":" });
  assertEquals(ids, [BOS, ...codes("ab: c")]);
});

Deno.test("a row as long as its pair holds all of it", () => {
  const [length] = rowLengths([pair, { text: "not counted" }], letters);
  assertEquals(row(pair, { seq: length! }).labels.at(-1), EOS);
});

Deno.test("a tokenizer without begin and end gives rows without", () => {
  const bare = { ...letters, bosId: null, eosId: null };
  const rows = toRows([{ text: "abc" }], bare, { seq: 4 });
  assertEquals([...rows.at(0).ids], [...codes("abc"), 0]);
  assertEquals([...rows.at(0).labels], [...codes("bc"), -100, -100]);
});

Deno.test("windows of texts give every token but the first as a label, once and in order", () => {
  const text = fc.stringMatching(/^[a-z]{1,20}$/);
  const texts = fc.array(text.map((text) => ({ text })), { minLength: 1 });
  fc.assert(fc.property(texts, fc.integer({ min: 1, max: 9 }), (list, seq) => {
    const rows = toRows(list, letters, { seq });
    const labels: number[] = [];
    for (let i = 0; i < rows.length; i++) {
      const row = rows.at(i);
      assertEquals([row.ids.length, row.labels.length], [seq, seq]);
      labels.push(...row.labels.filter((label) => label !== -100));
      assert(row.labels[0] !== -100, "a window without labels");
    }
    const stream = list.flatMap(({ text }) => [BOS, ...codes(text), EOS]);
    assertEquals(labels, stream.slice(1));
  }));
});

Deno.test("pairs come before the windows of texts", () => {
  const rows = toRows([{ text: "x" }, pair], letters, { seq: 9 });
  assertEquals(rows.length, 2);
  assertEquals(rows.at(0).ids[1], codes("a")[0]);
  assertEquals(rows.at(1).ids[1], codes("x")[0]);
});

Deno.test("rows of no positions are refused", () => {
  assertThrows(
    () => toRows([pair], letters, { seq: 0 }),
    RangeError,
    "Cannot make rows of 0 positions: the length must be a whole number of at least 1",
  );
});
