/**
 * Stages: the functions of a kernel, which run one after another. The threads that share a stage wait for one another
 * before the next.
 *
 * A function has as parameters the addresses of the kernel's buffers, of scratch memory that all threads share, and of
 * the thread's own, and of a pack if the kernel can read one; and if it is divided, the number of the thread and how
 * many there are.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  type AddressBits,
  type FunctionCode,
  functionOf,
  type Local,
  type Pointer,
} from "./assembler.ts";
import { Lanes } from "./lanes.ts";
import type { Keeping, Pack } from "./packs.ts";
import { type Division, type Part, partOf, type Split } from "./split.ts";

/** A function of a kernel. */
export interface Stage extends FunctionCode {
  /** Whether it is divided among threads. */
  readonly isSplit: boolean;
  /** Nanoseconds on one thread, about. */
  readonly work: number;
}

/** Scratch memory of a kernel. */
export interface Scratch {
  /** Bytes that all threads share. */
  readonly common: number;
  /** Bytes that each thread has for itself. */
  readonly own: number;
}

/** The code of a kernel. */
export interface CompiledKernel {
  /** Its functions, in order. */
  readonly stages: readonly Stage[];
  /** Scratch memory that they need. */
  readonly scratch: Scratch;
  /** How many of the shared functions it needs. */
  readonly shared: number;
  /** A pack that it can read; null if there is none. */
  readonly pack: Pack | null;
}

/** What code is written for. */
export interface Engine {
  /** Bits of an address. */
  readonly bits: AddressBits;
  /** Whether it has relaxed SIMD. */
  readonly relaxed: boolean;
  /** How work is divided; null where there is one thread. */
  readonly division: Division | null;
  /** Least multiplications of a product for which a BLAS is called; infinite without one. */
  readonly leastForBlas: number;
  /** Which packs are worth keeping. */
  readonly keeping: Keeping;
}

/** Writes the stages of one kernel. */
export class StageBuilder {
  /** Bits of an address. */
  readonly bits: AddressBits;
  /** Whether the engine has relaxed SIMD. */
  readonly relaxed: boolean;
  /** How work is divided; null where there is one thread. */
  readonly division: Division | null;
  /** Whether there is a BLAS. */
  readonly hasBlas: boolean;
  /** Which packs are worth keeping. */
  readonly keeping: Keeping;
  /** The parameter with the scratch memory that threads share. */
  readonly common: Pointer;
  /** The parameter with a thread's own. */
  readonly own: Pointer;
  /** What has been written. */
  readonly stages: Stage[] = [];
  #pack: Pack | null = null;
  #common = 0;
  #ownBytes = 0;

  /** No stages yet, of a kernel with so many buffers. */
  constructor(
    buffers: number,
    { bits, relaxed, division, leastForBlas, keeping }: Engine,
  ) {
    this.bits = bits;
    this.relaxed = relaxed;
    this.division = division;
    this.hasBlas = leastForBlas < Infinity;
    this.keeping = keeping;
    this.common = buffers as Pointer;
    this.own = buffers + 1 as Pointer;
  }

  /** Scratch memory that the stages need. */
  get scratch(): Scratch {
    return { common: this.#common, own: this.#ownBytes };
  }

  /** The pack that the stages can read. */
  get pack(): Pack | null {
    return this.#pack;
  }

  /** Has all stages take the address of a pack, and gives the parameter. */
  takePack(pack: Pack): Pointer {
    this.#pack = pack;
    return this.own + 1 as Pointer;
  }

  /** Takes shared scratch memory, and gives where in it. */
  takeCommon(bytes: number): number {
    const at = this.#common;
    this.#common += bytes;
    return at;
  }

  /** Takes scratch memory for each thread, and gives where in it. */
  takeOwn(bytes: number): number {
    const at = this.#ownBytes;
    this.#ownBytes += bytes;
    return at;
  }

  /** A way to divide what takes so many nanoseconds; null where that is not worth it. */
  divide(
    work: number,
    split: (division: Division) => Split | null,
  ): Split | null {
    const { division } = this;
    return division && work >= division.leastWork ? split(division) : null;
  }

  /** Writes a stage; `emit` is given the part of the thread if it is divided. */
  add(
    work: number,
    split: Split | null,
    emit: (lanes: Lanes, part: Part | null) => void,
  ): void {
    const addresses = this.own + (this.#pack ? 2 : 1);
    const { code } = functionOf(
      this.bits,
      "a".repeat(addresses) + (split ? "ii" : ""),
    );
    const thread = addresses as Local, threads = addresses + 1 as Local;
    const part = split && partOf(code, split, thread, threads);
    emit(new Lanes(code, this.relaxed), part);
    this.stages.push({ ...code.finish(), isSplit: split !== null, work });
  }

  /** Runs the stages that `emit` adds so many times. */
  repeat(times: number, emit: () => void): void {
    const from = this.stages.length;
    emit();
    const round = this.stages.slice(from);
    for (let i = 1; i < times; i++) this.stages.push(...round);
  }
}
