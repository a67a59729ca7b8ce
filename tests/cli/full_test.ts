import { assert, assertAlmostEquals, assertMatch } from "@std/assert";
import { exists } from "../../nn/checkpoint/files.ts";
import { inFolder, run } from "./support.ts";

// Slow, and the second needs data that is no part of the repository: `deno task test:full`.
const isFull = Deno.env.get("COTAN_FULL") !== undefined;

const root = new URL("../../", import.meta.url).pathname;
const shared = `${root}../shared/data`;

/** The held-out losses before and after. */
function losses(out: string): [before: number, after: number] {
  const found = [...out.matchAll(/^held-out loss \w+ training: (\S+)$/gm)];
  return found.map(([, loss]) => Number(loss)) as [number, number];
}

Deno.test({
  name:
    "deno task finetune ends within a minute, and what it learned holds for speeches it has not seen",
  ignore: !isFull,
  fn: () =>
    inFolder(async (folder) => {
      const start = performance.now();
      const { success, stdout } = await new Deno.Command(Deno.execPath(), {
        args: ["task", "finetune", "--out", `${folder}/out`],
        cwd: root,
        stderr: "inherit",
      }).output();
      const seconds = (performance.now() - start) / 1000;
      const out = new TextDecoder().decode(stdout);
      assert(success, out);
      assert(seconds < 60, `it took ${seconds.toFixed(0)} s`);
      const [before, after] = losses(out);
      assert(after < before - 0.3, `from ${before} to ${after}`);
      assert(out.match(/^sample (before|after):\n {2}\S/gm)?.length === 2, out);
      assertMatch(out, /loaded back: all [\d,]+ logits .* equal, bit for bit/);
      const [, most] = /merged: logits differ by at most (\S+)/.exec(out)!;
      assert(Number(most) <= 1e-5, most);
    }),
});

Deno.test({
  name: "a pretrained Llama learns E2E by LoRA as with PyTorch",
  ignore: !isFull || !await exists(shared),
  fn: () =>
    inFolder(async (folder) => {
      const { status, out, errors } = await run(
        "finetune",
        ...["--model", `${shared}/stories260K/hf-converted`],
        ...["--data", `${shared}/e2e/train_rebuilt_lora_format.txt.gz`],
        ...["--valid", `${shared}/e2e/lora_valid.txt`, "--valid-stride", "20"],
        ...["--rank", "8", "--alpha", "16", "--targets", "q_proj,v_proj"],
        ...["--steps", "300", "--batch", "8", "--seq", "128"],
        ...["--lr", "1e-2", "--warmup", "20", "--weight-decay", "0"],
        ...["--backend", "wasm", "--out", `${folder}/out`],
      );
      assert(status === 0, errors.join("\n"));
      const [before, after] = losses(out);
      assertAlmostEquals(before, 5.5, 0.01);
      // PyTorch gets 1.44.
      assert(after <= 1.7, `from ${before} to ${after}`);
    }),
});
