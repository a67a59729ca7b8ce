import { assertEquals, assertRejects } from "@std/assert";
import { FormatError } from "../../../core/mod.ts";
import { readDataset, readExamples } from "../../../nn/data/mod.ts";

/** Calls `f` with a new folder, which is then removed. */
async function inFolder(f: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await f(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function gzip(text: string): Promise<Uint8Array> {
  const stream = new Blob([text]).stream()
    .pipeThrough(new CompressionStream("gzip"));
  return await new Response(stream).bytes();
}

/** The exact message with which a data set is refused. */
async function refusal(path: string): Promise<string> {
  return (await assertRejects(() => readDataset(path), FormatError)).message;
}

Deno.test("a gzipped file reads as the file, whatever its name", async () => {
  await inFolder(async (folder) => {
    await Deno.writeFile(`${folder}/a.txt`, await gzip("a||b\n"));
    await Deno.writeFile(`${folder}/a.jsonl.gz`, await gzip('{"text": "é"}'));
    assertEquals(await readExamples(`${folder}/a.txt`), [
      { prompt: "a", completion: "b" },
    ]);
    assertEquals(await readExamples(new URL(`file://${folder}/a.jsonl.gz`)), [
      { text: "é" },
    ]);
  });
});

Deno.test("a folder holds train and perhaps valid", async () => {
  await inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/train.txt`, "one");
    assertEquals(await readDataset(folder), {
      train: [{ text: "one" }],
      valid: null,
    });
    await Deno.writeTextFile(`${folder}/train.jsonl`, '{"text": "two"}');
    await Deno.writeTextFile(`${folder}/valid.txt`, "three");
    assertEquals(await readDataset(`${folder}/`), {
      train: [{ text: "two" }],
      valid: [{ text: "three" }],
    });
  });
});

Deno.test("what cannot be read is refused by name", async () => {
  await inFolder(async (folder) => {
    const path = `${folder}/a.txt`;
    assertEquals(
      await refusal(path),
      `Cannot read ${path}: there is no such file`,
    );
    await Deno.writeFile(path, Uint8Array.of(0x61, 0xff, 0x61));
    assertEquals(
      await refusal(path),
      `Cannot read ${path}: it is not text in UTF-8`,
    );
    await Deno.writeFile(path, (await gzip("a".repeat(99))).slice(0, 15));
    assertEquals(
      await refusal(path),
      `Cannot read ${path}: its gzip data is damaged`,
    );
    assertEquals(
      await refusal(folder),
      `Cannot read the folder ${folder}: it has no file train.jsonl or train.jsonl.gz or train.txt or train.txt.gz`,
    );
  });
});
