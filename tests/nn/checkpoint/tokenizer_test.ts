import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import fc from "fast-check";
import { FormatError } from "../../../core/mod.ts";
import {
  createTokenizer,
  loadTokenizer,
  type Tokenizer,
} from "../../../nn/checkpoint/mod.ts";
import { inFolder, isAbsent, shared } from "./support.ts";

const words = {
  added_tokens: [
    { id: 0, content: "[PAD]", special: true },
    { id: 1, content: "[UNK]", special: true },
  ],
  normalizer: { type: "Lowercase" },
  pre_tokenizer: { type: "Whitespace" },
  post_processor: null,
  decoder: { type: "WordPiece", prefix: "##", cleanup: false },
  model: {
    type: "WordPiece",
    unk_token: "[UNK]",
    vocab: { "[PAD]": 0, "[UNK]": 1, red: 2, ball: 3, "##s": 4, ",": 5 },
  },
};

Deno.test("special tokens are found in the config, as texts and as records", async () => {
  const tokenizer = await createTokenizer(words, {
    pad_token: "[PAD]",
    unk_token: { content: "[UNK]" },
    bos_token: null,
  });
  const { padId, unkId, bosId, eosId, vocabSize } = tokenizer;
  assertEquals([padId, unkId, bosId, eosId, vocabSize], [0, 1, null, null, 6]);
  assertEquals(tokenizer.tokenToId("ball"), 3);
  assertEquals(tokenizer.tokenToId("cat"), null);
  assertEquals(tokenizer.idToToken(4), "##s");
  assertEquals(tokenizer.idToToken(6), null);
});

Deno.test("spaces of the text are kept unless the config says otherwise", async () => {
  const ids = [2, 5, 3, 4];
  const keeping = await createTokenizer(words);
  assertEquals(keeping.decode(ids), "red , balls");
  const cleaning = await createTokenizer(words, {
    clean_up_tokenization_spaces: true,
  });
  assertEquals(cleaning.decode(ids), "red, balls");
});

Deno.test("ids may be any iterable; an unknown one and none at all are told apart", async () => {
  const tokenizer = await createTokenizer(words);
  assertEquals(tokenizer.decode(Int32Array.of(2, 3)), "red ball");
  assertEquals(tokenizer.decode(new Set([2])), "red");
  assertEquals(tokenizer.decode([]), "");
  assertEquals(tokenizer.encode("a BALL"), [1, 3]);
  assertEquals(tokenizer.decode([1, 3]), "ball");
  assertEquals(tokenizer.decode([1, 3], { skipSpecial: false }), "[UNK] ball");
  for (const id of [6, -1, 0.5, NaN]) {
    assertThrows(
      () => tokenizer.decode([2, id]),
      RangeError,
      `Cannot decode the id ${id}: the tokenizer has 6 tokens, and none of this id`,
    );
  }
});

Deno.test("a missing or malformed tokenizer.json is refused", async () => {
  await inFolder(async (folder) => {
    const path = `${folder}/tokenizer.json`;
    const refuses = async (fault: string): Promise<void> => {
      const error = await assertRejects(
        () => loadTokenizer(folder),
        FormatError,
      );
      assertEquals(error.message, `Cannot read ${path}: ${fault}`);
    };
    await refuses("there is no such file");
    await Deno.writeTextFile(path, "[]");
    await refuses("it is no JSON object");
    await Deno.writeTextFile(path, '{"model": {"type": "BPE"}');
    await refuses("it is not JSON");
    await Deno.writeTextFile(path, '{"version": "1.0"}');
    await refuses(
      'the tokenizers library refuses it (Tokenizer must contain a "model" property)',
    );
    await Deno.writeTextFile(path, JSON.stringify(words));
    await loadTokenizer(folder);
    await Deno.writeTextFile(`${folder}/tokenizer_config.json`, "?");
    await assertRejects(
      () => loadTokenizer(folder),
      FormatError,
      `Cannot read ${folder}/tokenizer_config.json: it is not JSON`,
    );
  });
});

const stories = "data/stories260K/hf-converted";
Deno.test({
  name: "stories260K's tokenizer gives the golden ids, and any text comes back",
  ignore: isAbsent(stories) || isAbsent("golden/stories260K"),
  fn: async () => {
    const tokenizer = await loadTokenizer(shared(stories));
    const { vocabSize, bosId, eosId, unkId, padId } = tokenizer;
    assertEquals([vocabSize, bosId, eosId, unkId, padId], [512, 1, 2, 0, null]);
    const golden = shared("golden/stories260K/inputs.json");
    const inputs = JSON.parse(await Deno.readTextFile(golden));
    inputs.text.forEach((text: string, i: number) => {
      const length = inputs.attention_mask[i].lastIndexOf(1) + 1;
      const ids = tokenizer.encode(text);
      assertEquals(ids, inputs.input_ids[i].slice(0, length));
      assertEquals(tokenizer.encode(text, { addSpecial: false }), ids.slice(1));
      assertEquals(tokenizer.decode(ids), text);
      assertEquals(
        tokenizer.decode(ids, { skipSpecial: false }),
        `<s> ${text}`,
      );
    });
    assertEquals(
      tokenizer.encode(inputs.greedy.prompt),
      inputs.greedy.prompt_ids,
    );
    assertReturns(tokenizer);
  },
});

function assertReturns(tokenizer: Tokenizer): void {
  // A text that spells a special token, or the sign that stands for a space, does not come back.
  const plain = fc.string({ unit: "grapheme" })
    .filter((text) => !/<(s|\/s|unk|0x..)>|▁/.test(text));
  fc.assert(fc.property(plain, (text) => {
    assertEquals(tokenizer.decode(tokenizer.encode(text)), text);
  }));
}

for (
  const [name, file] of [
    ["gpt-2", "data/gpt2-tokenizer/tokenizer.json"],
    ["bert-bge", "data/tokenizer-refs/bert-base-uncased-tokenizer.json"],
  ] as const
) {
  const ids = `data/tokenizer-refs/${name}.out`;
  Deno.test({
    name: `the reference ids of ${name} are given`,
    ignore: isAbsent(file) || isAbsent(ids),
    fn: async () => {
      const read = (path: string) => Deno.readTextFile(shared(path));
      const tokenizer = await createTokenizer(JSON.parse(await read(file)));
      const texts = (await read(`data/tokenizer-refs/${name}.inp`))
        .split("\n__ggml_vocab_test__\n");
      const lines = (await read(ids)).split("\n");
      assertEquals(texts.length, 47);
      const wrong = texts.filter((text, i) =>
        tokenizer.encode(text, { addSpecial: false }).join(" ") !==
          lines[i]!.trim()
      );
      assertEquals(wrong, []);
    },
  });
}
