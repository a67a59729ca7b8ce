/**
 * What `deno task test` runs: format, lint, types, documentation, packaging, tests and a short run of the main job.
 *
 * The last line sums up: a check counts as one test.
 *
 * @module
 */

import { check, type Counts, sumUp, tests } from "./support/parts.ts";

const entries = [
  "mod.ts",
  "nn/mod.ts",
  "lora/mod.ts",
  "gpu/mod.ts",
  "core/testing/mod.ts",
  "cli.ts",
];

/** A few steps of the main job, into a folder that is then removed. */
async function smoke(): Promise<Counts> {
  const out = await Deno.makeTempDir();
  try {
    return await check(
      "task",
      "finetune",
      "--steps",
      "4",
      "--out",
      `${out}/run`,
    );
  } finally {
    await Deno.remove(out, { recursive: true });
  }
}

sumUp([
  await check("fmt", "--check"),
  await check("lint"),
  await check("check"),
  await check("doc", "--lint", ...entries),
  await check("publish", "--dry-run", "--allow-dirty"),
  // All of them with the examples of the documentation, and those of wasm on a single thread too.
  await tests(["--quiet", "--doc"]),
  await tests(["--quiet", "--filter", "(wasm)", "tests"], {
    COTAN_THREADS: "1",
  }),
  await smoke(),
]);
