/**
 * An allocator over one WebAssembly memory.
 *
 * Free blocks are kept in order of their addresses and join their neighbours. An allocation takes the smallest that
 * fits, so a loop that allocates and frees the same sizes comes to reuse the same blocks.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { formatBytes, outOfMemory, type Wanted } from "../budget.ts";
import { invariant } from "../errors.ts";
import type { AddressBits } from "./assembler.ts";
import { control } from "./control.ts";
import {
  createMemory,
  hasWideMemory,
  MOST_BYTES,
  pageCount,
} from "./address_bits.ts";

/** Blocks start and end at multiples of a cache line. */
export const LINE = 64;

const PAGE = 65536;

/** A range of bytes. */
interface Block {
  address: number;
  bytes: number;
}

/** Blocks of bytes in a memory that grows as far as it can. */
export class Heap {
  /** What the blocks lie in; views of its buffer end when it grows. */
  readonly memory: WebAssembly.Memory;
  #free: Block[] = [];
  #end: number;
  #used = 0;
  #most: number;
  #bits: AddressBits;
  /** Frees what can be done without; false if nothing was freed. Whoever keeps such blocks sets it. */
  spare: () => boolean = () => false;

  /** An empty heap that grows up to a number of bytes; one that threads share begins with the words of `control`. */
  constructor(
    mostBytes = Infinity,
    isShared = false,
    bits: AddressBits = 32,
  ) {
    this.#most = Math.floor(Math.min(mostBytes, MOST_BYTES[bits]) / PAGE);
    this.#bits = bits;
    this.#end = isShared ? control.end : LINE;
    this.memory = createMemory(this.#most, isShared, bits);
  }

  /** Bytes of all blocks. */
  get usedBytes(): number {
    return this.#used;
  }

  /** Bytes that the memory has grown to. */
  get reservedBytes(): number {
    return this.memory.buffer.byteLength;
  }

  /** The address of a new block; zero bytes take a line as well, so that no two blocks share an address. */
  allocate(bytes: number, wanted: Wanted = "a block"): number {
    for (;;) {
      const address = this.find(bytes);
      if (address !== null) return address;
      if (this.spare()) continue;
      const most = this.#most * PAGE;
      throw outOfMemory(wanted, bytes, this.#used, most, this.#wayOut(most));
    }
  }

  /** The same, or null where there is no room; nothing is spared for it. */
  find(bytes: number): number | null {
    const size = blockBytes(bytes);
    let best = -1;
    for (let i = 0; i < this.#free.length; i++) {
      const found = this.#free[i]!.bytes;
      if (found < size) continue;
      if (best < 0 || found < this.#free[best]!.bytes) best = i;
      if (found === size) break;
    }
    if (best < 0) return this.#extend(size);
    this.#used += size;
    const block = this.#free[best]!;
    const { address } = block;
    block.address += size;
    block.bytes -= size;
    if (block.bytes === 0) this.#free.splice(best, 1);
    return address;
  }

  /** Gives back a block of `bytes`, as it was asked for. */
  free(address: number, bytes: number): void {
    const size = blockBytes(bytes);
    this.#used -= size;
    let low = 0, high = this.#free.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#free[middle]!.address < address) low = middle + 1;
      else high = middle;
    }
    const before = this.#free[low - 1], after = this.#free[low];
    invariant(
      (!before || before.address + before.bytes <= address) &&
        (!after || address + size <= after.address) &&
        address + size <= this.#end,
      "a block was freed twice",
    );
    const joinsBefore = before && before.address + before.bytes === address;
    const joinsAfter = after && address + size === after.address;
    if (joinsBefore) {
      before.bytes += size + (joinsAfter ? after.bytes : 0);
      if (joinsAfter) this.#free.splice(low, 1);
    } else if (joinsAfter) {
      after.address = address;
      after.bytes += size;
    } else {
      this.#free.splice(low, 0, { address, bytes: size });
    }
    this.#dropLast();
  }

  /** A block behind all others. */
  #extend(size: number): number | null {
    const address = this.#end;
    const missing = address + size - this.reservedBytes;
    if (missing > 0 && !this.#grow(Math.ceil(missing / PAGE))) return null;
    this.#used += size;
    this.#end += size;
    return address;
  }

  /** What else helps where `most` bytes are too few. */
  #wayOut(most: number): string {
    return most === MOST_BYTES[32] && hasWideMemory()
      ? `, and init({ memory }) allows up to ${formatBytes(MOST_BYTES[64])}`
      : "";
  }

  /** Whether so many pages more could be had. */
  #grow(pages: number): boolean {
    const held = this.reservedBytes / PAGE;
    // Somewhat more than needed, as growing costs a system call and all views.
    const generous = Math.max(pages, Math.min(held >> 2, 1024));
    for (const count of [Math.min(generous, this.#most - held), pages]) {
      try {
        if (count < pages) continue;
        this.memory.grow(pageCount(count, this.#bits));
        return true;
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
      }
    }
    return false;
  }

  /** What is free at the end is no block. */
  #dropLast(): void {
    const last = this.#free.at(-1);
    if (!last || last.address + last.bytes !== this.#end) return;
    this.#end = last.address;
    this.#free.pop();
  }
}

function blockBytes(bytes: number): number {
  return Math.max(LINE, Math.ceil(bytes / LINE) * LINE);
}
