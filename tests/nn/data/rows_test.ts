import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { FormatError } from "../../../core/mod.ts";
import {
  type Chat,
  type Example,
  promptIds,
  type Row,
  rowLengths,
  type RowOptions,
  toBuckets,
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

/** `<role>content;` for each message. */
const chat: Chat = (messages, { addGenerationPrompt }) =>
  messages.map(({ role, content }) => `<${role}>${content};`).join("") +
  (addGenerationPrompt ? "<assistant>" : "");

const talk = {
  messages: [
    { role: "user", content: "hi" },
    { role: "assistant", content: "yo" },
    { role: "user", content: "ok" },
    { role: "assistant", content: "bye" },
  ],
};

Deno.test("a conversation is what the template writes, and with completionOnly its answers alone are learned", () => {
  const text = "<user>hi;<assistant>yo;<user>ok;<assistant>bye;";
  const all = row(talk, { seq: 60, chat });
  assertEquals(all.ids.slice(0, text.length), codes(text));
  assertEquals(all.labels.slice(0, text.length - 1), codes(text).slice(1));
  const { ids, labels } = row(talk, { seq: 60, chat, completionOnly: true });
  assertEquals(ids, all.ids);
  assertEquals(
    String.fromCodePoint(...labels.map((id) => id === -100 ? 46 : id)),
    text.slice(1).replace(
      /<user>hi;<|<user>ok;<|assistant>|user>hi;</g,
      (s) => ".".repeat(s.length),
    ) + ".".repeat(60 - text.length + 1),
  );
});

Deno.test("a conversation without a template is an error", () => {
  assertThrows(
    () => row(talk, { seq: 8 }),
    FormatError,
    "Cannot make rows of a conversation: there is no chat template; give one as `chat`",
  );
});

const pairs = fc.array(
  fc.record({
    prompt: fc.string({ maxLength: 8 }),
    completion: fc.string({ minLength: 1, maxLength: 12 }),
  }),
  { minLength: 1, maxLength: 12 },
);

Deno.test("packed rows hold the sequences whole and in order, and nothing is learned across borders", () => {
  fc.assert(fc.property(pairs, (examples) => {
    const seq = 40;
    const rows = toRows(examples, letters, { seq, pack: true });
    const alone = toRows(examples, letters, { seq });
    const real = (row: Row) => [...row.ids.subarray(0, row.tokens)];
    const all = Array.from({ length: rows.length }, (_, i) => rows.at(i));
    const each = examples.map((_, i) => alone.at(i));
    assertEquals(all.flatMap(real), each.flatMap(real));
    const labels = (row: Row) => [...row.labels.subarray(0, row.tokens)];
    assertEquals(all.flatMap(labels), each.flatMap(labels));
    // No row could have taken the first sequence of the next one.
    all.slice(1).forEach((row, i) => {
      const end = row.ids.indexOf(EOS) + 1;
      assert(all[i]!.tokens! + end > seq);
    });
  }));
});

Deno.test("each example stands among rows of the first length that holds it", () => {
  fc.assert(fc.property(pairs, (examples) => {
    const lengths = [12, 16, 24];
    const buckets = toBuckets(examples, letters, { lengths });
    const sizes = rowLengths(examples, letters);
    for (const rows of buckets) {
      const below = lengths[lengths.indexOf(rows.seq) - 1] ?? 0;
      const fitting = examples.filter((_, i) =>
        sizes[i]! > below && (sizes[i]! <= rows.seq || rows.seq === 24)
      );
      assertEquals(rows.length, fitting.length);
      fitting.forEach((example, i) =>
        assertEquals(
          rows.at(i),
          toRows([example], letters, { seq: rows.seq }).at(0),
        )
      );
    }
    assertEquals(
      buckets.reduce((sum, { length }) => sum + length, 0),
      examples.length,
    );
  }));
});

Deno.test("lengths that do not ascend are an error", () => {
  for (const lengths of [[], [8, 8], [16, 8]]) {
    assertThrows(
      () => toBuckets([pair], letters, { lengths }),
      RangeError,
      `Cannot make rows of the lengths [${
        lengths.join(", ")
      }]: they must ascend`,
    );
  }
});
