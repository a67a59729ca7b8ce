/**
 * What a worker does, as a function that is sent to it as text: nothing outside of it may be used.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Blas, Sgemm } from "./blas.ts";
import type { control } from "./control.ts";

/** What a worker is given. */
export interface Orders {
  /** The memory that all threads share. */
  readonly memory: WebAssembly.Memory;
  /** Its number, from 1. */
  readonly thread: number;
  /** How many threads there are. */
  readonly threads: number;
  /** Addresses of the words that it looks at. */
  readonly at: typeof control;
  /** Bytes of a line, in which addresses are told. */
  readonly line: number;
  /** How often it looks before it sleeps. */
  readonly spins: number;
  /** The BLAS to open, if any. */
  readonly blas: string | null;
}

/** Calls a function on all threads; `table` is the address of a program's table, in lines. */
export type Run = (table: number, thread: number, threads: number) => void;

/** Runs jobs until it is told to end. Modules come as bytes in the memory, so that no message has to be waited for. */
export function work(
  { memory, thread, threads, at, line, spins, blas }: Orders,
  openLibrary: (path: string, memory: WebAssembly.Memory) => Blas,
): void {
  let sgemm: Sgemm = () => {};
  try {
    if (blas !== null) sgemm = openLibrary(blas, memory).sgemm;
  } catch {
    // The thread ends, and programs run without it.
    return;
  }
  const words = new Int32Array(memory.buffer, 0, at.end / 4);
  const load = (address: number) => Atomics.load(words, address / 4);
  const add = (address: number, by: number) =>
    Atomics.add(words, address / 4, by);
  // By the address of the table, which no two programs share while they live.
  const runs = new Map<number, { program: number; run: Run }>();

  const nextJob = (job: number): number => {
    for (let i = 0; i < spins; i++) {
      if (load(at.job) !== job) return load(at.job);
    }
    add(at.idle, 1);
    while (load(at.job) === job) Atomics.wait(words, at.job / 4, job);
    add(at.idle, -1);
    return load(at.job);
  };
  const runOf = (program: number, table: number): Run => {
    const known = runs.get(table);
    if (known?.program === program) return known.run;
    const code = new Uint8Array(
      memory.buffer,
      load(at.code) * line,
      load(at.codeBytes),
    );
    const { exports } = new WebAssembly.Instance(
      new WebAssembly.Module(code.slice()),
      { env: { memory, sgemm } },
    );
    const run = exports.run as Run;
    runs.set(table, { program, run });
    return run;
  };

  try {
    let job = load(at.job);
    add(at.ready, 1);
    Atomics.notify(words, at.ready / 4);
    for (;;) {
      job = nextJob(job);
      const program = load(at.program), table = load(at.table);
      if (program === 0) return;
      runOf(program, table)(table, thread, threads);
    }
  } catch {
    // The others leave the barrier, and the first thread tells.
    Atomics.store(words, at.failed / 4, 1);
    add(at.round, 1);
    Atomics.notify(words, at.round / 4);
  }
}
