import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { FormatError } from "../../../core/mod.ts";
import { exampleFormat, parseExamples } from "../../../nn/data/mod.ts";

/** The exact message with which a text is refused. */
function refusal(text: string, name: string): string {
  return assertThrows(() => parseExamples(text, name), FormatError).message;
}

const word = fc.stringMatching(/^[a-z]{1,8}$/);

Deno.test("plain text is one example, taken as it is", () => {
  const text = "  Call me Ishmael.\n\nSome years ago\n";
  assertEquals(parseExamples(text, "a.txt"), [{ text }]);
});

Deno.test("JSON lines may mix texts and prompts, with empty lines between", () => {
  const pair = { prompt: "2 + 2 =", completion: " 4" };
  const lines = [{ text: "one" }, pair].map((x) => JSON.stringify(x));
  assertEquals(
    parseExamples(lines.join("\r\n\r\n") + "\r\n", "a.jsonl"),
    [{ text: "one" }, pair],
  );
});

Deno.test("keys that are not used are passed over", () => {
  const line = '{"id": 7, "text": "one", "prompt": null}';
  assertEquals(parseExamples(line, "a.ndjson"), [{ text: "one" }]);
});

Deno.test("a first line with || makes a text one of contexts and completions", () => {
  const text = "\nname : Aromi | area : city||Aromi is a pub . \na||b||c\n";
  assertEquals(parseExamples(text, "a.txt"), [
    { prompt: "name : Aromi | area : city", completion: "Aromi is a pub ." },
    { prompt: "a", completion: "b||c" },
  ]);
});

Deno.test("the ending .gz is passed over when the format is recognised", () => {
  assertEquals(exampleFormat("a.jsonl.gz", "{}"), "jsonl");
  assertEquals(exampleFormat("a.txt.gz", "a||b"), "e2e");
});

Deno.test("a JSON line comes back as it was written", () => {
  const example = fc.oneof(
    fc.record({ text: word }),
    fc.record({ prompt: word, completion: word }),
    fc.record({
      messages: fc.array(fc.record({ role: word, content: fc.string() }), {
        minLength: 1,
      }),
    }),
  );
  fc.assert(fc.property(fc.array(example, { minLength: 1 }), (examples) => {
    const text = examples.map((x) => JSON.stringify(x)).join("\n");
    assertEquals(parseExamples(text, "a.jsonl"), examples);
  }));
});

Deno.test("a bad line is named with the file, its number and the reason", () => {
  const expected =
    'expected {"text"}, {"prompt", "completion"} or {"messages"}';
  const cases: [line: string, reason: string][] = [
    ["[1]", `it is not an object; ${expected}`],
    ["{}", `there is no "prompt"; found no keys, ${expected}`],
    [
      '{"instruction": "a", "output": "b"}',
      `there is no "prompt"; found "instruction", "output", ${expected}`,
    ],
    [
      '{"prompt": "a"}',
      `there is no "completion"; found "prompt", ${expected}`,
    ],
    ['{"text": 3}', '"text" is not a string'],
    ['{"text": " "}', '"text" is empty'],
    ['{"prompt": "a", "completion": ""}', '"completion" is empty'],
    ['{"messages": []}', '"messages" is not a list of at least one message'],
    [
      '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant"}]}',
      'message 2 of "messages" is not {"role", "content"} of strings',
    ],
  ];
  for (const [line, reason] of cases) {
    assertEquals(
      refusal(`{"text": "good"}\n\n${line}\n`, "data/a.jsonl"),
      `Cannot read data/a.jsonl, line 3: ${reason}`,
    );
  }
});

Deno.test("a line that is not JSON is refused with the parser's reason", () => {
  assertEquals(
    refusal('{"text": "a"', "a.jsonl"),
    "Cannot read a.jsonl, line 1: it is not JSON (Expected ',' or '}' after property value in JSON at position 12 " +
      '(line 1 column 13)); expected {"text"}, {"prompt", "completion"} or {"messages"}',
  );
});

Deno.test("a line without || is refused where the first has one", () => {
  assertEquals(
    refusal("a||b\nab\n", "a.txt"),
    'Cannot read a.txt, line 2: there is no "||" between context and completion, as there is in the first line',
  );
  assertEquals(
    refusal("a||\n", "a.txt"),
    'Cannot read a.txt, line 1: there is nothing after the "||"',
  );
  assertEquals(
    refusal(" ||b\n", "a.txt"),
    'Cannot read a.txt, line 1: there is nothing before the "||"',
  );
});

Deno.test("a file without examples is refused", () => {
  for (const name of ["a.txt", "a.jsonl"]) {
    assertEquals(
      refusal(" \n\n", name),
      `Cannot train on ${name}: it is empty; give it at least one example`,
    );
  }
});

Deno.test("tables and JSON documents are not taken for plain text", () => {
  assertEquals(
    refusal('[{"text": "a"}]', "data/a.json.gz"),
    "Cannot read data/a.json.gz: .json files are not supported; give text as .txt, or examples as .jsonl, one object a line",
  );
  assertEquals(
    refusal("text\na", "a.CSV"),
    "Cannot read a.CSV: .CSV files are not supported; give text as .txt, or examples as .jsonl, one object a line",
  );
});
