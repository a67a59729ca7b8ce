/**
 * What `deno task test` runs: format, lint, types, documentation, packaging, tests and a short run of the main job.
 *
 * The last line sums up: a check counts as one test.
 *
 * @module
 */

import { dirname, fromFileUrl } from "@std/path";

/** Outcome of a part. */
interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

const root = dirname(dirname(fromFileUrl(import.meta.url)));
const entries = [
  "mod.ts",
  "nn/mod.ts",
  "lora/mod.ts",
  "gpu/mod.ts",
  "core/testing/mod.ts",
  "cli.ts",
];

/** Runs deno with arguments, its output passed on; returns whether it succeeded and what it printed. */
async function deno(
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<{ ok: boolean; signal: Deno.Signal | null; output: string }> {
  console.log(`\n$ deno ${args.join(" ")}`);
  const child = new Deno.Command(Deno.execPath(), {
    args: [...args],
    cwd: root,
    env: { NO_COLOR: "1", ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let output = "";
  async function pass(
    stream: ReadableStream<Uint8Array<ArrayBuffer>>,
    to: { writeSync(bytes: Uint8Array): number },
  ): Promise<void> {
    const decoder = new TextDecoder();
    for await (const bytes of stream) {
      to.writeSync(bytes);
      output += decoder.decode(bytes, { stream: true });
    }
  }
  await Promise.all([
    pass(child.stdout, Deno.stdout),
    pass(child.stderr, Deno.stderr),
  ]);
  const { success, signal } = await child.status;
  return { ok: success, signal, output };
}

/** A check that counts as one test. */
async function check(...args: string[]): Promise<Counts> {
  const { ok } = await deno(args);
  return { passed: ok ? 1 : 0, failed: ok ? 0 : 1, skipped: 0 };
}

/** Tests, by arguments and variables of the environment beside the usual ones. */
async function tests(
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<Counts> {
  const { ok, signal, output } = await deno(
    ["test", "--allow-all", "--parallel", "--quiet", ...args],
    { XDG_RUNTIME_DIR: "/tmp", ...env },
  );
  const count = (name: string): number => {
    const found = [...output.matchAll(new RegExp(`(\\d+) ${name}`, "g"))];
    return Number(found.at(-1)?.[1] ?? 0);
  };
  const failed = count("failed");
  // Once in some twenty runs Mesa's software adapter aborts while the process exits, after the verdict on all tests.
  const isDone = signal === "SIGABRT" && /^ok \| \d+ passed/m.test(output);
  if (isDone) console.log("The process aborted as it exited: not counted.");
  return {
    passed: count("passed"),
    // A run that fails without a failed test: a leak, an uncaught error, a module that does not load.
    failed: ok || isDone ? failed : Math.max(1, failed),
    skipped: count("ignored"),
  };
}

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

const parts = [
  await check("fmt", "--check"),
  await check("lint"),
  await check("check"),
  await check("doc", "--lint", ...entries),
  await check("publish", "--dry-run", "--allow-dirty"),
  // All of them with the examples of the documentation, and those of wasm on a single thread too.
  await tests(["--doc"]),
  await tests(["--filter", "(wasm)", "tests"], { COTAN_THREADS: "1" }),
  await smoke(),
];
const total = (key: keyof Counts): number =>
  parts.reduce((sum, counts) => sum + counts[key], 0);
console.log(
  `\n${total("passed")} passed, ${total("failed")} failed, ${
    total("skipped")
  } skipped`,
);
Deno.exit(total("failed") === 0 ? 0 : 1);
