/**
 * A process that runs one workload, seen from outside.
 *
 * @module
 */

import type { Opening, Times } from "./serve.ts";

/** How a process is started. */
export interface Command {
  readonly program: string;
  /** Arguments before the name of the workload. */
  readonly before: readonly string[];
  /** Arguments behind it. */
  readonly behind: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** Last lines of what a process complains of that are told. */
const TOLD = 3;

/** A process that has prepared its workload, or told why not. */
export class Contestant implements AsyncDisposable {
  #process: Deno.ChildProcess;
  #lines: AsyncGenerator<Opening | Times>;
  #writer: WritableStreamDefaultWriter<Uint8Array>;
  #complaints: Promise<string>;
  #limit: number;

  /** Starts it; each answer may take `limit` milliseconds. Throws `NotFound` where there is no such program. */
  constructor(command: Command, name: string, limit: number) {
    const { program, before, behind, env } = command;
    this.#process = new Deno.Command(program, {
      args: [...before, name, ...behind],
      clearEnv: true,
      env: { ...inherited(), ...env },
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#lines = answers(this.#process.stdout);
    this.#writer = this.#process.stdin.getWriter();
    this.#complaints = new Response(this.#process.stderr).text();
    this.#limit = limit;
  }

  /** The first line. */
  async opening(): Promise<Opening> {
    const opening = await this.#answer() as Opening;
    this.#signal("SIGSTOP");
    return opening;
  }

  /** Has it run its workload for so many milliseconds, and at least once. */
  async measure(budget: number): Promise<readonly number[]> {
    this.#signal("SIGCONT");
    await this.#writer.write(new TextEncoder().encode(`${budget}\n`));
    const answer = await this.#answer();
    this.#signal("SIGSTOP");
    if ("times" in answer) return answer.times;
    throw new Error("error" in answer ? answer.error : "it answered wrongly");
  }

  /** Threads that wait may spin: while others are measured it stands still, where the system can do that. */
  #signal(signal: "SIGSTOP" | "SIGCONT"): void {
    if (Deno.build.os === "windows") return;
    try {
      this.#process.kill(signal);
    } catch {
      // It has ended.
    }
  }

  async #answer(): Promise<Opening | Times> {
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      this.#process.kill("SIGKILL");
    }, this.#limit);
    const { value } = await this.#lines.next();
    clearTimeout(timer);
    if (isLate) throw new Error(`it took more than ${this.#limit / 1000} s`);
    if (value) return value;
    const lines = (await this.#complaints).trim().split("\n").slice(-TOLD);
    throw new Error(`it ended: ${lines.join(" ").trim() || "without a word"}`);
  }

  /** Ends the process. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer.close().catch(() => {});
    try {
      this.#process.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await this.#lines.return(undefined);
    await this.#complaints;
    await this.#process.status;
  }
}

/** This process's environment, but for what slows a BLAS down. */
function inherited(): Record<string, string> {
  const all = Object.entries(Deno.env.toObject());
  return Object.fromEntries(
    all.filter(([name]) => !name.startsWith("OPENBLAS_")),
  );
}

/** The lines that are JSON: packages print what they like. */
async function* answers(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
): AsyncGenerator<Opening | Times, undefined> {
  let rest = "";
  for await (const chunk of stream.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + chunk).split("\n");
    rest = parts.pop()!;
    for (const part of parts) {
      if (part.startsWith("{")) yield JSON.parse(part);
    }
  }
  return undefined;
}
