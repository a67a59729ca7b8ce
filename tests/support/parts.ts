/**
 * Parts of a run of all tests, each in a process of its own, and what they come to.
 *
 * @module
 */

/** Outcome of a part. */
export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** How often properties ran, where that is told. */
  readonly runs: number;
}

const root = new URL("../../", import.meta.url);

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
export async function check(...args: string[]): Promise<Counts> {
  const { ok } = await deno(args);
  return { passed: ok ? 1 : 0, failed: ok ? 0 : 1, skipped: 0, runs: 0 };
}

/** Tests, by arguments and variables of the environment beside the usual ones. */
export async function tests(
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<Counts> {
  const { ok, signal, output } = await deno(
    ["test", "--allow-all", "--parallel", ...args],
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
    runs: [...output.matchAll(/^(\d+) property runs$/gm)]
      .reduce((sum, [, runs]) => sum + Number(runs), 0),
  };
}

/** Prints the line that sums up, and exits. */
export function sumUp(parts: readonly Counts[]): never {
  const { passed, failed, skipped } = totalOf(parts);
  console.log(`\n${passed} passed, ${failed} failed, ${skipped} skipped`);
  Deno.exit(failed === 0 ? 0 : 1);
}

/** All parts together. */
export function totalOf(parts: readonly Counts[]): Counts {
  return parts.reduce((a, b) => ({
    passed: a.passed + b.passed,
    failed: a.failed + b.failed,
    skipped: a.skipped + b.skipped,
    runs: a.runs + b.runs,
  }));
}
