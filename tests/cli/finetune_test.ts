import {
  assert,
  assertEquals,
  assertMatch,
  assertNotEquals,
  assertStringIncludes,
} from "@std/assert";
import { init, memory, type Tensor, tensor, tree } from "../../core/mod.ts";
import { plainLearner } from "../../examples/cli/learner.ts";
import { train } from "../../examples/cli/train.ts";
import { loadPeft } from "../../lora/mod.ts";
import { adamw, fromPretrained, inspectSafetensors } from "../../nn/mod.ts";
import { inFolder, prepare, run, writeModel } from "./support.ts";

/** The lines of a record. */
async function metrics(path: string): Promise<Record<string, number>[]> {
  const text = await Deno.readTextFile(path);
  return text.trimEnd().split("\n").map((line) => JSON.parse(line));
}

async function names(folder: string): Promise<string[]> {
  const entries = await Array.fromAsync(Deno.readDir(folder));
  return entries.map(({ name }) => name).sort();
}

/** What the record has to say of the losses. */
const losses = (records: Record<string, number>[]): number[] =>
  records.map(({ loss, heldOutLoss }) => loss ?? heldOutLoss!);

Deno.test("finetune leaves an adapter, a record, and a lower loss", async () => {
  await inFolder(async (folder) => {
    const options = await prepare(folder);
    const { status, out, errors } = await run("finetune", ...options);
    assertEquals([status, errors], [0, []]);
    assertEquals(await names(`${folder}/out`), [
      "adapter_config.json",
      "adapter_model.safetensors",
      "metrics.jsonl",
    ]);
    const records = await metrics(`${folder}/out/metrics.jsonl`);
    assertEquals(records.map(({ step }) => step), [
      ...Array.from({ length: 13 }, (_, i) => i),
      12,
    ]);
    const keys = ["step", "loss", "lr", "tokensPerSecond", "seconds"];
    assertEquals(Object.keys(records[1]!), keys);
    const [before, after] = [records[0]!, records.at(-1)!];
    assert(after.heldOutLoss! < before.heldOutLoss! - 0.1);

    const config = JSON.parse(
      await Deno.readTextFile(`${folder}/out/adapter_config.json`),
    );
    assertEquals(config.base_model_name_or_path, `${folder}/model`);
    assertEquals([config.r, config.lora_alpha], [8, 16]);
    const tensors = await inspectSafetensors(
      `${folder}/out/adapter_model.safetensors`,
    );
    assertEquals(Object.keys(tensors).length, 4);

    assertStringIncludes(out, "llama, 6,352 parameters, context 24");
    assertStringIncludes(out, "backend  reference");
    assertStringIncludes(
      out,
      `held-out loss before training: ${before.heldOutLoss!.toFixed(4)}`,
    );
    assertStringIncludes(
      out,
      `held-out loss after training: ${after.heldOutLoss!.toFixed(4)}`,
    );
    assertEquals(out.match(/^sample (before|after):$/gm)?.length, 2);
    assertEquals(out.match(/^step +\d+\/12 /gm)?.length, 12);
    assertMatch(out, /loaded back: all [\d,]+ logits .* equal, bit for bit/);
    const [, most] = /merged: logits differ by at most (\S+)/.exec(out)!;
    assert(Number(most) <= 1e-5);
  });
});

for (const backend of ["reference", "wasm"]) {
  Deno.test(`the same seed gives the same losses to the last bit, another seed others (${backend})`, async () => {
    await inFolder(async (folder) => {
      const options = await prepare(folder);
      const read = async (out: string, seed: string): Promise<number[]> => {
        const { status } = await run(
          ...["finetune", ...options, "--steps", "4", "--backend", backend],
          ...["--out", `${folder}/${out}`, "--seed", seed],
        );
        assertEquals(status, 0);
        return losses(await metrics(`${folder}/${out}/metrics.jsonl`));
      };
      const first = await read("a", "0");
      assertEquals(await read("b", "0"), first);
      assertNotEquals(await read("c", "1"), first);
    });
  });
}

Deno.test("with --method full the result is a model of its own", async () => {
  await inFolder(async (folder) => {
    const options = await prepare(folder);
    const full = ["--method", "full", "--lr", "1e-3"];
    const { status, out } = await run("finetune", ...options, ...full);
    assertEquals(status, 0);
    assertEquals(await names(`${folder}/out`), [
      "config.json",
      "metrics.jsonl",
      "model.safetensors",
      "tokenizer.json",
      "tokenizer_config.json",
    ]);
    const records = await metrics(`${folder}/out/metrics.jsonl`);
    assert(records.at(-1)!.heldOutLoss! < records[0]!.heldOutLoss!);
    assertMatch(out, /equal, bit for bit/);
    using _ = await init({ backend: "reference" });
    const { tokenizer } = await fromPretrained(`${folder}/out`);
    assertEquals(tokenizer!.bosId, 0);
  });
});

Deno.test("generate continues a prompt, with an adapter or without", async () => {
  await inFolder(async (folder) => {
    const options = await prepare(folder);
    await run("finetune", ...options, "--steps", "40", "--lr", "0.03");
    const ask = [
      ...["generate", "--model", `${folder}/model`, "--backend", "reference"],
      ...["--prompt", "a =>", "--temperature", "0", "--max-new-tokens", "4"],
    ];
    const base = await run(...ask);
    const tuned = await run(...ask, "--adapter", `${folder}/out`);
    assertEquals([base.status, tuned.status], [0, 0]);
    assert(base.out.startsWith("a =>"));
    assert(tuned.out.startsWith("a =>"));
    assertNotEquals(base.out, tuned.out);
  });
});

Deno.test("generate searches with beams, penalises repetition and stops at a text", async () => {
  await inFolder(async (folder) => {
    await prepare(folder);
    const ask = (...args: string[]) =>
      run(
        ...["generate", "--model", `${folder}/model`, "--prompt", "ab"],
        ...["--backend", "reference", "--temperature", "0", ...args],
      );
    const { out } = await ask();
    assert(out.startsWith("ab") && out.length > 8);
    for (
      const args of [["--beams", "3"], ["--repetition-penalty", "9"], [
        ...["--temperature", "3", "--min-p", "0.1", "--top-k", "0"],
      ]]
    ) {
      const { status, out: other, errors } = await ask(...args);
      assertEquals([status, errors], [0, []]);
      assert(other.startsWith("ab"));
      assertNotEquals(other, out, args.join(" "));
    }
    for (const beams of ["1", "3"]) {
      const whole = (await ask("--beams", beams)).out.trimEnd().slice(2);
      const stop = whole.slice(3, 5);
      const cut = await ask("--beams", beams, "--stop", stop);
      assertEquals(cut.out, `ab${whole.slice(0, whole.indexOf(stop))}\n`);
    }
  });
});

Deno.test("pretrain leaves a model that loads, and its record", async () => {
  await inFolder(async (folder) => {
    const text = "the whale and the sea and the ship\n".repeat(60);
    await Deno.writeTextFile(`${folder}/data.txt`, text);
    const { status, out, errors } = await run(
      ...["pretrain", "--data", `${folder}/data.txt`, "--out", `${folder}/m`],
      ...["--vocab", "270", "--layers", "1", "--hidden", "16", "--heads", "2"],
      ...["--intermediate", "24", "--context", "16", "--batch", "2"],
      ...["--steps", "20", "--lr", "0.03", "--backend", "reference"],
      ...["--sample-tokens", "3", "--log-every", "10", "--save-every", "10"],
    );
    assertEquals([status, errors], [0, []]);
    assertStringIncludes(out, "rows of 16 tokens");
    assertEquals(await names(`${folder}/m`), [
      "config.json",
      "metrics.jsonl",
      "model.safetensors",
      "tokenizer.json",
      "tokenizer_config.json",
    ]);
    const records = await metrics(`${folder}/m/metrics.jsonl`);
    assert(records.at(-1)!.heldOutLoss! < records[0]!.heldOutLoss! - 0.5);
    using _ = await init({ backend: "reference" });
    const { model, tokenizer } = await fromPretrained(`${folder}/m`, {
      tokenizer: true,
    });
    assertEquals(model.config.vocab_size, 270);
    assertEquals(tokenizer.decode(tokenizer.encode("the whale")), "the whale");
  });
});

Deno.test("a loss that is not finite ends the run and names the step", async () => {
  await inFolder(async (folder) => {
    const options = await prepare(folder);
    const { status, errors } = await run(
      ...["finetune", ...options, "--lr", "1e38", "--warmup", "0"],
    );
    assertEquals(status, 1);
    assertEquals(errors.length, 1);
    assertMatch(
      errors[0]!,
      /^error: the loss of step \d+ is (NaN|Infinity); a lower --lr or a longer --warmup may help$/,
    );
    // The record tells what happened up to then; a broken adapter is not left behind.
    assertEquals(await names(`${folder}/out`), ["metrics.jsonl"]);
  });
});

Deno.test("weights that are not finite after the last step are named, and not saved", async () => {
  await inFolder(async (folder) => {
    const options = await prepare(folder);
    const { status, errors } = await run(
      ...["finetune", ...options, "--lr", "1e39", "--warmup", "0"],
      ...["--steps", "1"],
    );
    assertEquals(status, 1);
    assertEquals(errors.length, 1);
    assertMatch(
      errors[0]!,
      /^error: model\.layers\.0\.self_attn\.[qv]_proj\.lora\.[ab] is not finite any more, and was not saved; a lower --lr may help$/,
    );
    assertEquals(await names(`${folder}/out`), ["metrics.jsonl"]);
  });
});

Deno.test("live bytes after 200 steps are those after 20", async () => {
  using _ = await init({ backend: "wasm" });
  const live: number[] = [];
  function* batches() {
    for (let i = 0;; i++) {
      const ids = Int32Array.of(i % 3, i % 5, i % 7, 1);
      yield { ids, labels: ids, mask: ids, tokens: 4 };
    }
  }
  using w = tensor([[1, 2], [3, 4]]);
  const { trainable, state } = await train({
    loss: (params, ids, labels) => {
      const { w } = params as { w: Tensor };
      return w.matmul(w).mul(ids.cast("f32").sum()).sum().square()
        .add(labels.cast("f32").sum()).log();
    },
    learner: plainLearner(
      [{ w: w.add(0) }, { w: null }],
      adamw({ learningRate: 1e-3 }),
    ),
    batches: batches(),
    shape: [2, 2],
    steps: 201,
    onStep: ({ step }) => {
      if (step === 20 || step === 200) live.push(memory().liveBytes);
    },
  });
  assertEquals(live[0], live[1]);
  for (const { leaf } of tree.leaves([trainable, state])) leaf.dispose();
  assertEquals(memory().tensors, 1);
});

Deno.test("an adapter can be loaded onto the model again", async () => {
  await inFolder(async (folder) => {
    const options = await prepare(folder);
    await run("finetune", ...options, "--targets", "all-linear");
    await writeModel(`${folder}/again`);
    using _ = await init({ backend: "reference" });
    const { params } = await fromPretrained(`${folder}/again`);
    await loadPeft(`${folder}/out`, params);
  });
});
