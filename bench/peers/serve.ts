/**
 * The side of a process that computes: it prepares one workload, and then runs it whenever it is told to.
 *
 * It writes JSON lines: first `{ first, facts, bytes }`, `{ absent }`, `{ missing }` or `{ error }`, and for each line
 * with a number of milliseconds that it reads `{ times }`.
 *
 * @module
 */

import { type CaseName, CASES } from "./cases.ts";

/** A workload that is ready. */
export interface Work {
  /** Runs it once, to the end; may return the milliseconds of its parts, to be counted instead of the whole. */
  run(): Promise<readonly number[] | void> | readonly number[] | void;
  /** The numbers that `EXPECTED` of the cases lists, or fewer. */
  facts(): Promise<readonly number[]> | readonly number[];
  /** Bytes of memory that are taken from the system for it, if that is known. */
  bytes?(): number;
}

/** The first line. */
export type Opening =
  | {
    /** Milliseconds of the first run, with what is compiled in it. */
    readonly first: number;
    readonly facts: readonly number[];
    readonly bytes: number | null;
  }
  /** Why this peer has no such workload. */
  | { readonly absent: string }
  /** Why the peer is not here at all. */
  | { readonly missing: string }
  | { readonly error: string };

/** A further line. */
export type Times = {
  /** Milliseconds of runs. */
  readonly times: readonly number[];
};

/** Losses that are worth comparing, and the milliseconds after which fewer will do. */
const LOSSES = 11, PATIENCE = 10_000;

/** Milliseconds of work before anything is measured: engines compile what is hot, and threads start. */
const WARM = 400;

/** Least milliseconds of a sample: shorter runs are counted together. */
const SAMPLE = 2;

/** The workload of one step of training, which returns its loss. */
export function training(step: () => Promise<number>): Work {
  const losses: number[] = [];
  const start = performance.now();
  const isEarly = (): boolean => performance.now() - start < PATIENCE;
  const run = async (): Promise<void> => {
    losses.push(await step());
  };
  return {
    run,
    async facts() {
      while (losses.length < LOSSES && isEarly()) await run();
      return losses.slice(0, LOSSES);
    },
  };
}

/** Serves the workload that the first argument names; `prepare` gives null for one that the peer does not have. */
export async function serve(
  prepare: (name: CaseName) => Promise<Work | null> | Work | null,
): Promise<void> {
  const name = CASES.find((name) => name === Deno.args[0]);
  try {
    const work = name ? await prepare(name) : null;
    if (!work) return say({ absent: "it has no such workload" });
    const start = performance.now();
    await work.run();
    const first = performance.now() - start;
    const facts = await work.facts();
    say({ first, facts, bytes: work.bytes?.() ?? null });
    let runs = 0;
    if (first < PATIENCE) runs = await warm(work);
    for await (const budget of lines()) {
      // Others ran meanwhile: what they displaced from memory comes back in a run that does not count.
      if (first < PATIENCE) await work.run();
      say({ times: await measure(work, Number(budget), runs) });
    }
  } catch (error) {
    say({ error: error instanceof Error ? error.message : String(error) });
  }
}

/** Says that a package cannot be had, and ends the process. */
export function missing(name: string, error: unknown): never {
  const { message } = error as Error;
  say({ missing: `${name} cannot be loaded: ${message.split("\n")[0]}` });
  Deno.exit(0);
}

/** Runs for a while; returns how many runs make a sample. */
async function warm(work: Work): Promise<number> {
  const start = performance.now();
  let fastest = Infinity;
  do {
    const before = performance.now();
    await work.run();
    fastest = Math.min(fastest, performance.now() - before);
  } while (performance.now() - start < WARM);
  return Math.max(1, Math.ceil(SAMPLE / fastest));
}

async function measure(
  work: Work,
  budget: number,
  runs: number,
): Promise<number[]> {
  const times: number[] = [];
  const start = performance.now();
  do {
    const before = performance.now();
    let parts: readonly number[] | void = undefined;
    for (let i = 0; i < Math.max(1, runs); i++) parts = await work.run();
    const count = Math.max(1, runs);
    times.push(...parts ?? [(performance.now() - before) / count]);
  } while (performance.now() - start < budget);
  return times;
}

function say(line: Opening | Times): void {
  console.log(JSON.stringify(line));
}

async function* lines(): AsyncGenerator<string> {
  let rest = "";
  for await (
    const chunk of Deno.stdin.readable.pipeThrough(new TextDecoderStream())
  ) {
    const parts = (rest + chunk).split("\n");
    rest = parts.pop()!;
    yield* parts;
  }
}
