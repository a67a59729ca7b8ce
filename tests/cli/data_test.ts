import { assert, assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../examples/cli/args.ts";
import { CORPORA, loadDataset } from "../../examples/cli/corpora.ts";
import {
  type DataValues,
  loadExamples,
  prepareRows,
  samplePrompt,
} from "../../examples/cli/data.ts";
import type { Tokenizer } from "../../nn/checkpoint/mod.ts";
import type { Example } from "../../nn/data/mod.ts";

/** A token for each character. */
const tokenizer = {
  encode: (text: string) => [...text].map((c) => c.codePointAt(0)!),
  bosId: 1,
  eosId: 2,
} as unknown as Tokenizer;

const values: DataValues = {
  data: "",
  valid: null,
  "valid-stride": null,
  seq: null,
};

const options = { context: 64, usual: 16 };

const pairs = (count: number, length: number): Example[] =>
  Array.from({ length: count }, (_, i) => ({
    prompt: `${i}`,
    completion: "x".repeat(length),
  }));

Deno.test("rows have the usual length, or the context's where that is less", () => {
  const examples = { train: pairs(3, 1), valid: pairs(1, 1) };
  const seq = (context: number, seq: number | null = null): number =>
    prepareRows(examples, tokenizer, { ...values, seq }, { context, usual: 16 })
      .train.seq;
  assertEquals([seq(64), seq(8), seq(64, 20)], [16, 8, 20]);
  assertThrows(
    () => seq(64, 65),
    UsageError,
    "--seq 65 is longer than the model's context of 64 tokens; use --seq 64 or less",
  );
});

Deno.test("held-out pairs stand whole, as far as the context reaches", () => {
  const rows = (length: number) =>
    prepareRows(
      { train: pairs(3, 1), valid: pairs(2, length) },
      tokenizer,
      values,
      options,
    ).valid;
  assertEquals(rows(20).seq, 1 + "0 => ".length + 20);
  assertEquals(rows(200).seq, 64);
});

Deno.test("every n-th held-out row counts, 64 rows where n is not given", () => {
  const examples = { train: pairs(3, 1), valid: pairs(640, 1) };
  const count = (stride: number | null): number =>
    prepareRows(
      examples,
      tokenizer,
      { ...values, "valid-stride": stride },
      options,
    ).valid.length;
  assertEquals([count(null), count(100)], [64, 7]);
  const text = [{ text: "abc ".repeat(1000) }];
  const { valid } = prepareRows(
    { train: text, valid: text },
    tokenizer,
    values,
    options,
  );
  assert(valid.length > 60 && valid.length <= 64);
});

Deno.test("the summary tells how many rows are cut", () => {
  const examples = {
    train: [...pairs(3, 1), ...pairs(1, 30)],
    valid: pairs(1, 1),
  };
  assertEquals(
    prepareRows(examples, tokenizer, values, options).summary,
    "4 rows of 16 tokens (about 25 % are longer, up to 36, and cut), 1 held-out row",
  );
});

Deno.test("a sample continues the prompt as rows have it", () => {
  const decode = (ids: number[]): string =>
    ids.map((id) => id === 1 ? "^" : String.fromCodePoint(id)).join("");
  const sample = (prompt: string | null, held: Example): string =>
    decode(samplePrompt(prompt, held, tokenizer));
  assertEquals(sample(null, { prompt: "a", completion: "b" }), "^a =>");
  assertEquals(sample("c", { prompt: "a", completion: "b" }), "^c =>");
  assertEquals(sample("c", { text: "a" }), "^c");
  const text = "one two  three\nfour five six seven eight nine";
  assertEquals(
    sample(null, { text }),
    "^one two three four five six seven eight",
  );
});

Deno.test("the corpora are the chapters and the speeches", async () => {
  const [novel, speeches] = await Promise.all(
    Object.keys(CORPORA).map(async (name) =>
      (await loadDataset(name)).train.map((e) => "text" in e ? e.text : "")
    ),
  );
  assertEquals(novel!.length, 136);
  assert(novel![0]!.startsWith("CHAPTER 1. Loomings.\n\nCall me Ishmael."));
  assert(novel!.at(-1)!.startsWith("Epilogue "));
  assertEquals(speeches!.length, 32);
  const { train, valid } = await loadExamples({ data: "sotu", valid: null });
  assertEquals([train.length, valid.length], [31, 1]);
});
