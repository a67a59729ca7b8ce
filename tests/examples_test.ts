/**
 * The examples run as they are, with no more permissions than they say.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { fromFileUrl } from "@std/path";

/** What an example prints. */
async function run(
  name: string,
  ...permissions: readonly string[]
): Promise<string[]> {
  const path = fromFileUrl(new URL(`../examples/${name}.ts`, import.meta.url));
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "--no-prompt", ...permissions, path],
    env: { XDG_RUNTIME_DIR: "/tmp", NO_COLOR: "1" },
  }).output();
  assert(success, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout).trim().split("\n");
}

Deno.test("fit_line finds the line", async () => {
  const lines = await run("fit_line");
  const found = lines.at(-1)!.match(/^slope (\S+), offset (\S+)$/)!;
  assert(Math.abs(Number(found[1]) - 3) < 0.05, lines.at(-1));
  assert(Math.abs(Number(found[2]) + 1) < 0.05, lines.at(-1));
});

Deno.test("check_gradients finds nothing wrong", async () => {
  assertEquals(await run("check_gradients"), [
    "its gradients are those of finite differences",
    "its slope is x between -1 and 1, and nothing leaks",
    "it broadcasts",
  ]);
});

Deno.test("lora_by_hand learns the recipe", async () => {
  const lines = await run("lora_by_hand", "--allow-read");
  const losses = lines.flatMap((line) =>
    line.match(/^step \d+: loss (\S+)$/)?.[1] ?? []
  ).map(Number);
  assertEquals(losses.length, 6);
  assert(losses[5]! < losses[0]! / 2, losses.join(" "));
});

Deno.test("classify is right about sentences that it has not seen", async () => {
  const lines = await run("classify");
  const [, right, all] = lines.at(-1)!.match(/^(\d+) of (\d+) /)!;
  assert(Number(all) >= 50 && Number(right) >= 0.9 * Number(all), lines.at(-1));
});
