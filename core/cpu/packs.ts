/**
 * Packs of right operands that stay the same from run to run: such an operand is packed once, and its pack kept as long
 * as the storage that it is made of.
 *
 * A pack begins with a line whose first word is its state. Panels of whole blocks of the inner size follow, so that
 * where a block begins does not depend on how threads share the columns. The line at address 0 is nobody's and zero:
 * address 0 stands for no pack.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Matrix } from "../plan/kernel.ts";
import type { Block, FunctionBuilder, Local, Pointer } from "./assembler.ts";
import { type Heap, LINE } from "./memory.ts";
import { i32 } from "./opcodes.ts";
import { PANEL } from "./packing.ts";

/**
 * Most bytes of all packs. What caches do not hold is read from memory as slowly as it is packed: of 16 rows, products
 * with 4 weights of 1 MiB took 0.81 of the time, with 16 of them 0.88, and with 36 as long as before.
 */
const MOST_BYTES = 2 ** 24;

/** Which operands are worth packs that are kept. */
export interface Keeping {
  /** Fewest elements of the operand. */
  readonly leastElements: number;
  /** Most rows of the product. */
  readonly mostRows: number;
}

/**
 * Of 16 rows, a product with 256 × 1024 took 0.80 of the time, of 32 rows 0.87, and of 64 rows as long as before. One
 * with 128 × 128 took 0.87; of less there is too little to save to look for a pack.
 */
export const WORTH_KEEPING: Keeping = { leastElements: 2 ** 14, mostRows: 32 };

/** What the first word of a pack says. */
const state = { none: 0, filling: 1, full: 2 } as const;

/** A pack that a kernel could read. */
export interface Pack {
  /** The buffer that it is made of. */
  readonly buffer: number;
  /** What of that it holds, and how: packs of a storage with the same text are the same bytes. */
  readonly key: string;
  /** Its size. */
  readonly bytes: number;
}

/** A pack of an input of a program. */
export interface InputPack extends Omit<Pack, "buffer"> {
  /** The number of the input. */
  readonly input: number;
}

/** The pack of a matrix of k rows and n columns in blocks of `inner` rows. */
export function packOf(
  { buffer, view: { offset, strides } }: Matrix,
  k: number,
  n: number,
  inner: number,
): Pack {
  const key = [offset, ...strides.slice(-2), k, n, inner].join();
  return { buffer, key, bytes: LINE + 4 * k * padded(n) };
}

/**
 * Sets `panels` to where those of a block are, and has `pack` put them there unless that has been done: in the pack if
 * there is one, else in scratch memory, where `panels` points. Threads that share rows all pack the same bytes there.
 */
export function emitChoice(
  code: FunctionBuilder,
  { kept, found }: { readonly kept: Pointer; readonly found: Local },
  panels: Pointer,
  n: number,
  p: Block,
  j: Block,
  pack: () => void,
): void {
  code.get(found).if(() => {
    code.get(kept).const(LINE).plus();
    if (p.from !== 0) code.push(p.from).const(4 * padded(n)).op(i32.mul).plus();
    if (j.from !== 0) {
      code.push(j.from).push(p.size).op(i32.mul).const(4).op(i32.mul).plus();
    }
    code.set(panels);
  });
  code.get(found).const(state.full).op(i32.ne).if(pack);
}

/** Loads the state of a pack, 0 if there is none. */
export function emitState(code: FunctionBuilder, kept: Pointer): Local {
  const found = code.local();
  code.get(kept).memory(i32.load).set(found);
  return found;
}

/** What was read of a storage, by keys: its pack, or null where there is none now. */
export type Reads = Map<string, Kept | null>;

/** A storage. Packs are known by it and not by its address, which another may take. */
export interface Packable {
  /** What was read of it; null for nothing yet. */
  reads: Reads | null;
}

/** A pack in memory. */
interface Kept {
  readonly address: number;
  readonly bytes: number;
  /** Where it is known, and as what. */
  readonly reads: Reads;
  readonly key: string;
  /** The programs that have read it. */
  readonly readers: Set<object>;
  /** Whether a run that filled it is over. */
  isFull: boolean;
}

/** The packs in a heap. They give way when that is full, and then none are kept any more. */
export class Packs {
  #heap: Heap;
  #kept = new Set<Kept>();
  #filling = new Set<Kept>();
  #bytes = 0;
  #isOver = false;

  /** None yet. */
  constructor(heap: Heap) {
    this.#heap = heap;
    heap.spare = () => this.#giveWay();
  }

  /**
   * The addresses of the packs that a program is to read in a run, 0 for those that are not kept. What is read for the
   * second time is kept from now on. Nothing else may be allocated until the run is over.
   */
  find(
    reader: object,
    wanted: readonly InputPack[],
    inputs: readonly Packable[],
  ): number[] {
    this.#filling.clear();
    return wanted.map(({ input, key, bytes }) => {
      const reads = inputs[input]!.reads ??= new Map();
      const known = reads.get(key);
      if (known === undefined) reads.set(key, null);
      const kept = known === null ? this.#keep(reads, key, bytes) : known;
      if (!kept) return 0;
      kept.readers.add(reader);
      if (!kept.isFull) this.#filling.add(kept);
      return kept.address;
    });
  }

  /** The run is over: what it has packed is there. */
  complete(): void {
    for (const kept of this.#filling) {
      this.#mark(kept.address, state.full);
      kept.isFull = true;
    }
    this.#filling.clear();
  }

  /** Drops the packs of a storage that is freed or overwritten. */
  forget(storage: Packable): void {
    storage.reads?.forEach((kept) => kept && this.#drop(kept));
    storage.reads = null;
  }

  /** Drops the packs that no other program has read. */
  leave(reader: object): void {
    for (const kept of this.#kept) {
      if (kept.readers.delete(reader) && kept.readers.size === 0) {
        this.#drop(kept);
      }
    }
  }

  #keep(reads: Reads, key: string, bytes: number): Kept | null {
    if (this.#isOver || this.#bytes + bytes > MOST_BYTES) return null;
    const address = this.#heap.find(bytes);
    if (address === null) return null;
    const readers = new Set<object>();
    const kept = { address, bytes, reads, key, readers, isFull: false };
    this.#bytes += bytes;
    this.#kept.add(kept);
    reads.set(key, kept);
    this.#mark(address, state.filling);
    return kept;
  }

  #mark(address: number, word: number): void {
    new Uint32Array(this.#heap.memory.buffer, address, 1)[0] = word;
  }

  #drop(kept: Kept): void {
    kept.reads.set(kept.key, null);
    this.#kept.delete(kept);
    this.#bytes -= kept.bytes;
    this.#heap.free(kept.address, kept.bytes);
  }

  #giveWay(): boolean {
    this.#isOver = true;
    const isAny = this.#kept.size > 0;
    this.#kept.forEach((kept) => this.#drop(kept));
    return isAny;
  }
}

/** Columns of whole panels. */
function padded(n: number): number {
  return PANEL * Math.ceil(n / PANEL);
}
