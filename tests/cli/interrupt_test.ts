import { assert, assertEquals, assertMatch } from "@std/assert";
import { init } from "../../core/mod.ts";
import { loadPeft } from "../../lora/mod.ts";
import { exists } from "../../nn/checkpoint/files.ts";
import { fromPretrained } from "../../nn/mod.ts";
import { interrupted } from "./interrupt.ts";
import { inFolder, prepare } from "./support.ts";

Deno.test({
  name: "Ctrl-C ends training after the step, and what was learned is kept",
  ignore: Deno.build.os === "windows",
  fn: () =>
    inFolder(async (folder) => {
      const options = await prepare(folder);
      const { code, output } = await interrupted(
        [...options, "--steps", "100000"],
        (output) => output.includes("step      3/100000"),
      );
      assertEquals(code, 130, output);
      assertMatch(
        output,
        /stopping after this step; Ctrl-C again ends at once\n/,
      );
      const [, steps] = /what was learned in (\d+) steps is in/.exec(output)!;
      assert(Number(steps) >= 3);
      using _ = await init({ backend: "reference" });
      const { params } = await fromPretrained(`${folder}/model`);
      await loadPeft(`${folder}/out`, params);
    }),
});

Deno.test({
  name: "Ctrl-C before training leaves nothing behind",
  ignore: Deno.build.os === "windows",
  fn: () =>
    inFolder(async (folder) => {
      const options = await prepare(folder);
      const many = Array.from(
        { length: 20000 },
        (_, i) => JSON.stringify({ prompt: `${i}`, completion: "a" }),
      );
      await Deno.writeTextFile(`${folder}/many.jsonl`, many.join("\n"));
      const { code, output } = await interrupted(
        [...options, "--valid", `${folder}/many.jsonl`, "--valid-stride", "1"],
        (output) => output.includes("backend"),
      );
      assertEquals(code, 130, output);
      assertMatch(output, /\ninterrupted\n$/);
      assert(!await exists(`${folder}/out`));
    }),
});
