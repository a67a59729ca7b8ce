/**
 * The team of threads: workers that run the same programs over the same memory as the thread that starts them.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { DeviceError } from "../errors.ts";
import { control, SPINS } from "./control.ts";
import { type Heap, LINE } from "./memory.ts";
import { maySleep, startWorker, type Thread } from "./threads.ts";
import type { Orders, Run } from "./worker.ts";

/** How a team behaves. */
export interface TeamOptions {
  /** Nanoseconds that a run must save to be worth waking workers that sleep, and to be worth telling those that do not. */
  readonly waking: number;
  readonly telling: number;
  /** Nanoseconds that runs must have been able to save before workers are started. */
  readonly starting: number;
  /** Milliseconds after which a worker that does not answer is given up. */
  readonly patience: number;
  /** The BLAS that threads open, if any. */
  readonly blas: string | null;
}

/** A program that may run on all threads. */
export interface TeamProgram {
  /** Its module's `run`, in this thread. */
  readonly run: Run;
  /** Address of its table, in lines. */
  readonly table: number;
  /** Nanoseconds that all threads save, about. */
  readonly saved: number;
  /** The module, until the workers have it. */
  code: Uint8Array | null;
  /** Its number, once the workers have it. */
  number: number;
}

const CODE = "the code of a program";

/** Milliseconds that workers may take to start before programs go on without them. */
const START = 1000;

/** Workers that share a heap with this thread; started when programs have had enough to do. */
export class Team {
  /** How many threads there are with this one. */
  readonly threads: number;
  #heap: Heap;
  #options: TeamOptions;
  #words: Int32Array;
  #workers: Thread[] | null = null;
  #saved = 0;
  #programs = 0;
  /** Why it cannot go on. */
  #failure: { cause: unknown } | null = null;
  /** Whether it is at work without workers: there are none, or they are not wanted any more. */
  #isOver = false;

  /** No workers yet. */
  constructor(heap: Heap, threads: number, options: TeamOptions) {
    this.threads = threads;
    this.#heap = heap;
    this.#options = options;
    this.#words = new Int32Array(heap.memory.buffer, 0, control.end / 4);
    this.#store(control.patience, options.patience);
    this.#store(control.maySleep, maySleep(this.#words) ? 1 : 0);
  }

  /**
   * Runs a program on all threads if that is worth it and the workers are there, else on this one. `prepare` is called
   * when nothing is left to allocate.
   */
  run(program: TeamProgram, prepare: () => void): void {
    this.#check();
    if (!this.#helps(program.saved)) {
      prepare();
      return program.run(program.table, 0, 1);
    }
    const { code } = program;
    const address = code ? this.#heap.allocate(code.length, CODE) : 0;
    if (code) {
      const { buffer } = this.#heap.memory;
      new Uint8Array(buffer, address, code.length).set(code);
      program.number = ++this.#programs;
    }
    try {
      prepare();
      this.#store(control.code, address / LINE);
      this.#store(control.codeBytes, code?.length ?? 0);
      this.#start(program.number, program.table);
      program.run(program.table, 0, this.threads);
      program.code = null;
    } catch (cause) {
      this.#fail(cause);
      this.#check();
    } finally {
      if (code) this.#heap.free(address, code.length);
    }
  }

  /** Ends the workers. */
  stop(): void {
    this.#isOver = true;
    if (!this.#workers) return;
    this.#start(0, 0);
    for (const worker of this.#workers) worker.terminate();
    this.#workers = null;
  }

  #helps(saved: number): boolean {
    const { waking, telling, starting } = this.#options;
    const areAwake = this.#workers && this.#load(control.idle) === 0;
    if (this.#isOver || saved < (areAwake ? telling : waking)) return false;
    this.#saved += saved;
    if (!this.#workers) {
      if (this.#saved < starting) return false;
      this.#open();
    }
    return this.#load(control.ready) === this.threads - 1;
  }

  /** Starts the workers; where that is refused, programs go on without. */
  #open(): void {
    this.#workers = [];
    try {
      for (let thread = 1; thread < this.threads; thread++) {
        this.#workers.push(this.#hire(thread));
      }
    } catch {
      this.stop();
      return;
    }
    if (this.#words[control.maySleep / 4] === 0) return;
    const until = performance.now() + START;
    for (;;) {
      const ready = this.#load(control.ready);
      const left = until - performance.now();
      if (ready === this.threads - 1 || left <= 0) return;
      Atomics.wait(this.#words, control.ready / 4, ready, left);
    }
  }

  #hire(thread: number): Thread {
    const orders: Orders = {
      memory: this.#heap.memory,
      thread,
      threads: this.threads,
      at: control,
      line: LINE,
      spins: SPINS,
      blas: this.#options.blas,
    };
    const worker = startWorker(orders);
    const lost = (cause: unknown): void => {
      if (this.#isOver) return;
      const { threads } = this;
      const ready = this.#load(control.ready);
      if (ready < threads - 1) this.stop();
      else this.#fail(cause);
    };
    worker.on?.("error", lost);
    worker.on?.("exit", lost);
    worker.addEventListener?.("error", lost);
    return worker;
  }

  /** Has the workers begin. */
  #start(program: number, table: number): void {
    this.#store(control.program, program);
    this.#store(control.table, table);
    Atomics.add(this.#words, control.job / 4, 1);
    if (this.#load(control.idle) > 0) {
      Atomics.notify(this.#words, control.job / 4);
    }
  }

  #fail(cause: unknown): void {
    this.#failure ??= { cause };
    this.#store(control.failed, 1);
    Atomics.add(this.#words, control.round / 4, 1);
    Atomics.notify(this.#words, control.round / 4);
    this.stop();
  }

  #check(): void {
    if (!this.#failure) return;
    throw new DeviceError(
      `Cannot run a program on ${this.threads} threads: one of them has stopped, and what was computed is lost; call init again, with threads: 1 if it happens again`,
      this.#failure,
    );
  }

  #load(address: number): number {
    return Atomics.load(this.#words, address / 4);
  }

  #store(address: number, value: number): void {
    Atomics.store(this.#words, address / 4, value);
  }
}
