/**
 * What the tests of the command line share: a terminal that remembers, and a small model in a folder.
 *
 * @module
 */

import { main, type Terminal } from "../../cli.ts";
import { init, random } from "../../core/mod.ts";
import { llama, savePretrained } from "../../nn/mod.ts";
import {
  tokenizerConfigJson,
  tokenizerJson,
  trainBpe,
} from "../../nn/data/mod.ts";

/** A terminal that nobody watches, and what was printed. */
export class Recorder implements Terminal {
  readonly isInteractive: boolean = false;
  /** Standard output. */
  out = "";
  /** Lines of standard error. */
  readonly errors: string[] = [];

  columns(): number {
    return 80;
  }

  line(text = ""): void {
    this.out += `${text}\n`;
  }

  write(text: string): void {
    this.out += text;
  }

  status(): void {}

  error(text: string): void {
    this.errors.push(text);
  }
}

/** Runs a command line: its status and what it printed. */
export async function run(
  ...args: string[]
): Promise<{ status: number; out: string; errors: readonly string[] }> {
  const terminal = new Recorder();
  const status = await main(args, terminal);
  return { status, out: terminal.out, errors: terminal.errors };
}

/** Calls `f` with a new folder, which is then removed. */
export async function inFolder(
  f: (folder: string) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await f(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Prompts and completions that a small model can learn: a letter, and the same letter three times. */
export const pairs: string = Array.from(
  "abcdefghij".repeat(4),
  (letter) => JSON.stringify({ prompt: letter, completion: letter.repeat(3) }),
).join("\n");

/** Positions of the small model. */
export const CONTEXT = 24;

/** Writes a random Llama of one block, and its tokenizer. */
export async function writeModel(folder: string): Promise<void> {
  using _ = await init({ backend: "reference" });
  const bpe = trainBpe([], { vocabSize: 258 });
  const config = {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    vocab_size: 258,
    hidden_size: 16,
    intermediate_size: 24,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    max_position_embeddings: CONTEXT,
    tie_word_embeddings: true,
    initializer_range: 0.2,
  };
  using key = random.key(3);
  await savePretrained(folder, { params: llama(config).init(key), config });
  const files = {
    "tokenizer.json": tokenizerJson(bpe),
    "tokenizer_config.json": tokenizerConfigJson(bpe),
  };
  for (const [name, json] of Object.entries(files)) {
    await Deno.writeTextFile(`${folder}/${name}`, JSON.stringify(json));
  }
}

/** Writes the model to `model` and the pairs to `data.jsonl`; gives the options of a short run on the reference. */
export async function prepare(folder: string): Promise<string[]> {
  await writeModel(`${folder}/model`);
  await Deno.writeTextFile(`${folder}/data.jsonl`, pairs);
  return [
    ...["--model", `${folder}/model`],
    ...["--data", `${folder}/data.jsonl`],
    ...["--out", `${folder}/out`],
    ...["--backend", "reference"],
    ...["--steps", "12", "--batch", "2", "--seq", "12", "--log-every", "1"],
    ...["--targets", "q_proj,v_proj", "--lr", "0.01", "--sample-tokens", "2"],
  ];
}
