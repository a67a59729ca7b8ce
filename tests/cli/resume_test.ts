import { assert, assertEquals, assertMatch } from "@std/assert";
import { exists } from "../../nn/checkpoint/files.ts";
import { interrupted } from "./interrupt.ts";
import { inFolder, prepare, run } from "./support.ts";

for (const method of ["lora", "dylora", "full"]) {
  Deno.test({
    name:
      `a run of ${method} that goes on after Ctrl-C ends in the bits of one that was never stopped`,
    ignore: Deno.build.os === "windows",
    fn: () =>
      inFolder(async (folder) => {
        const options = [
          ...await prepare(folder),
          ...["--method", method, "--steps", "150", "--save-every", "7"],
          ...(method === "full" ? [] : ["--dropout", "0.1"]),
        ];
        const file = method === "full"
          ? "model.safetensors"
          : "adapter_model.safetensors";
        const whole = await run(
          ...["finetune", ...options, "--out", `${folder}/whole`],
        );
        assertEquals([whole.status, whole.errors], [0, []]);
        assert(!await exists(`${folder}/whole/training.safetensors`));
        const { code, output } = await interrupted(
          options,
          (output) => output.includes("step  20/150"),
        );
        assertEquals(code, 130, output);
        const before = await Deno.readFile(`${folder}/out/${file}`);
        const other = await run(
          ...["finetune", ...options, "--resume", "--lr", "0.5"],
        );
        assertEquals(other.errors, [
          `error: --resume needs the options of the run in ${folder}/out: --lr was 0.01, and is 0.5`,
        ]);
        const { status, out, errors } = await run(
          ...["finetune", ...options, "--resume"],
        );
        assertEquals([status, errors], [0, []]);
        assertMatch(out, /resumed {2}after \d+ of 150 steps/);
        const resumed = await Deno.readFile(`${folder}/out/${file}`);
        assertEquals(resumed, await Deno.readFile(`${folder}/whole/${file}`));
        assert(before.some((byte, i) => byte !== resumed[i]));
        assert(!await exists(`${folder}/out/training.safetensors`));
        const record = await Deno.readTextFile(`${folder}/out/metrics.jsonl`);
        const steps = record.trim().split("\n").map((line) =>
          JSON.parse(line).step
        );
        assertEquals(steps.at(-2), 150);
      }),
  });
}
