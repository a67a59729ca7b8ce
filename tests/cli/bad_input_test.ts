import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { exists } from "../../nn/checkpoint/files.ts";
import { CONTEXT, inFolder, prepare, run } from "./support.ts";

/** Changes something, if that is the mistake, and gives more options and the line that is expected. */
type Mistake = (
  folder: string,
) => Promise<{ args: string[]; line: string | RegExp }>;

const given = (args: string[], line: string | RegExp): Mistake => () =>
  Promise.resolve({ args, line });

/** A mistake in the data file. */
const data = (text: string, reason: string): Mistake => async (folder) => {
  const path = `${folder}/bad.jsonl`;
  await Deno.writeTextFile(path, text);
  return { args: ["--data", path], line: reason.replace("FILE", path) };
};

/** A mistake in config.json. */
const config =
  (changes: Record<string, unknown>, line: RegExp): Mistake =>
  async (
    folder,
  ) => {
    const path = `${folder}/model/config.json`;
    const old = JSON.parse(await Deno.readTextFile(path));
    await Deno.writeTextFile(path, JSON.stringify({ ...old, ...changes }));
    return { args: [], line };
  };

/** A mistake in model.safetensors. */
const weights = (
  change: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array,
  line: RegExp,
): Mistake =>
async (folder) => {
  const path = `${folder}/model/model.safetensors`;
  await Deno.writeFile(path, change(await Deno.readFile(path)));
  return { args: [], line };
};

const mistakes: Record<string, Mistake> = {
  "an unknown option": given(
    ["--rnak", "4"],
    "error: unknown option --rnak of finetune; the nearest is --rank, and finetune --help lists all",
  ),
  "an option of another method": given(
    ["--slow-rate", "0.5"],
    "error: --slow-rate is for --method lorasc, not for lora",
  ),
  "ranks that are no numbers": given(
    ["--method", "dylora", "--ranks", "1,x"],
    'error: --ranks must be positive whole numbers with commas between, found "1,x"',
  ),
  "ranks beyond the rank": given(
    ["--method", "dylora", "--rank", "2", "--ranks", "1,4"],
    "error: --ranks 1,4 must ascend to --rank, which is 2",
  ),
  "biases of a model without": given(
    ["--method", "bitfit"],
    "error: --method bitfit finds nothing to train: the model has no such parameters",
  ),
  "nothing to resume": given(
    ["--resume"],
    /^error: there is nothing to resume in .*out: a run that was stopped leaves training\.safetensors there$/,
  ),
  "a cascade to resume": given(
    ["--resume", "--method", "lorasc"],
    "error: --resume cannot go on with a cascade: its slow weights are not kept; start anew",
  ),
  "more stages than steps": given(
    ["--method", "lorasc", "--stages", "99"],
    "error: --stages 99 are more than the 12 steps; use --stages 12 or less",
  ),
  "a value out of range": given(
    ["--rank", "0"],
    'error: --rank must be a whole number of at least 1, found "0"',
  ),
  "a missing data file": given(
    ["--data", "no/such.txt"],
    "error: Cannot read no/such.txt: there is no such file",
  ),
  "a missing held-out file": given(
    ["--valid", "no/such.txt"],
    "error: Cannot read no/such.txt: there is no such file",
  ),
  "a model of the Hub": given(
    ["--model", "openai-community/gpt2"],
    'error: --model openai-community/gpt2 is no folder; commands do not fetch from the Hugging Face Hub: fromPretrained("openai-community/gpt2") of cotan/nn does, in a script with --allow-net and --allow-env, and tells the folder',
  ),
  "a model that does not continue texts": config(
    { architectures: ["LlamaForSequenceClassification"], num_labels: 2 },
    /^error: (Cannot load .*|--model .* is a llama that does not continue texts; give a causal language model)$/,
  ),
  "a missing model": given(
    ["--model", "./no/such"],
    /^error: Cannot load a model from .\/no\/such: there is no such folder; give one with config\.json and model\.safetensors/,
  ),
  "a target that matches nothing": given(
    ["--targets", "q_proj,qkv"],
    /^error: Cannot select by "qkv": it matches no layer; there are model\.embed_tokens, .*model\.layers\.\*\.self_attn\.q_proj, /,
  ),
  "a rank that is too large": given(
    ["--rank", "17"],
    /^error: Cannot adapt model\.layers\.0\.self_attn\.q_proj of weight f32\[16, 16\] at rank 17/,
  ),
  "a row longer than the context": given(
    ["--seq", "25"],
    `error: --seq 25 is longer than the model's context of ${CONTEXT} tokens; use --seq ${CONTEXT} or less`,
  ),
  "a warm-up without an end": given(
    ["--warmup", "12"],
    "error: --warmup 12 leaves nothing of the 12 steps; use --warmup 11 or less, or more --steps",
  ),
  "a result that is a file": async (folder) => {
    await Deno.writeTextFile(`${folder}/file`, "");
    return {
      args: ["--out", `${folder}/file`],
      line: `error: --out ${folder}/file is a file; give a folder`,
    };
  },
  "an empty data set": data(
    "\n",
    "error: Cannot train on FILE: it is empty; give it at least one example",
  ),
  "a data file with a bad line": data(
    '{"text": "good"}\n{"txet": "bad"}\n',
    'error: Cannot read FILE, line 2: there is no "prompt"; found "txet", expected {"text"}, {"prompt", "completion"} or {"messages"}',
  ),
  "an architecture that is not there": config(
    { architectures: ["MambaForCausalLM"] },
    /^error: .*MambaForCausalLM/,
  ),
  "a config without a size": config(
    { hidden_size: undefined },
    /^error: Cannot build a Llama model: config has no hidden_size$/,
  ),
  "truncated weights": weights(
    (bytes) => bytes.slice(0, -1000),
    /^error: Cannot read .*model\.safetensors: /,
  ),
  "weights without a header": weights(
    () => new Uint8Array(4),
    /^error: Cannot read .*model\.safetensors: /,
  ),
  "corrupt weights": weights(
    (bytes) => bytes.fill(0x7b, 8, 40),
    /^error: Cannot read .*model\.safetensors: /,
  ),
  "a tokenizer larger than the model": async (folder) => {
    const path = `${folder}/model/tokenizer.json`;
    const json = JSON.parse(await Deno.readTextFile(path));
    json.model.vocab.xyz = 258;
    await Deno.writeTextFile(path, JSON.stringify(json));
    return {
      args: [],
      line:
        `error: Cannot use ${folder}/model/tokenizer.json: it has ids up to 258, and vocab_size is 258; load the model with tokenizer: false`,
    };
  },
};

for (const [name, mistake] of Object.entries(mistakes)) {
  Deno.test(`${name} is one clear line, and nothing is written`, async () => {
    await inFolder(async (folder) => {
      const options = await prepare(folder);
      const { args, line } = await mistake(folder);
      const { status, errors } = await run("finetune", ...options, ...args);
      assertEquals(status, 1);
      assertEquals(errors.length, 1);
      assertEquals(errors[0]!.split("\n").length, 1, errors[0]);
      if (typeof line === "string") assertEquals(errors[0], line);
      else assert(line.test(errors[0]!), errors[0]);
      assert(!await exists(`${folder}/out`));
    });
  });
}

Deno.test("an unknown command is named with the nearest known one", async () => {
  const { status, errors } = await run("finetuen", "--rank", "4");
  assertEquals(status, 1);
  assertEquals(errors, [
    'error: unknown command "finetuen"; the nearest is finetune, and --help lists all',
  ]);
});

Deno.test("a prompt that fills the context is refused", async () => {
  await inFolder(async (folder) => {
    await prepare(folder);
    const { status, errors } = await run(
      ...["generate", "--model", `${folder}/model`, "--backend", "reference"],
      ...["--prompt", "a".repeat(CONTEXT)],
    );
    assertEquals(status, 1);
    assertEquals(errors, [
      `error: --prompt has ${
        CONTEXT + 1
      } tokens, and the model's context of ${CONTEXT} leaves no room to go on; use a shorter one`,
    ]);
  });
});

Deno.test("an adapter that is not there is refused", async () => {
  await inFolder(async (folder) => {
    await prepare(folder);
    const { status, errors } = await run(
      ...["generate", "--model", `${folder}/model`, "--backend", "reference"],
      ...["--adapter", "no/such"],
    );
    assertEquals(status, 1);
    assertStringIncludes(
      errors[0]!,
      "error: Cannot load an adapter from no/such: ",
    );
  });
});

Deno.test("each command tells its options", async () => {
  for (const name of ["finetune", "generate", "pretrain"]) {
    const { status, out } = await run(name, "--steps", "x", "--help");
    assertEquals(status, 0);
    assertStringIncludes(out, `Usage: deno task ${name} [options]`);
    assertStringIncludes(out, "  --backend auto|webgpu|wasm|reference ");
    assertStringIncludes(out, "  --blas auto|PATH ");
  }
  const { out } = await run();
  assertStringIncludes(out, "deno task finetune  Adapts a model to data");
});
