/**
 * Buffers on the device: storages, which come from a pool and go back to it, and the budget that all memory is under.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Storage } from "../core/backend.ts";
import { checkBuffer, outOfMemory, type Wanted } from "../core/budget.ts";
import { invariant } from "../core/errors.ts";
import type { Batch } from "./batch.ts";
import { Region } from "./region.ts";

/** Elements on the device. */
export class GpuStorage implements Storage {
  /** Set once it is back in the pool. */
  freed = false;

  /** A part of `bytes` of a buffer that may be longer. */
  constructor(readonly bytes: number, readonly block: Block) {}
}

/** A buffer of the pool. */
export interface Block {
  /** Tells buffers apart in keys. */
  readonly id: number;
  /** The memory. */
  readonly region: Region;
  /** The batch that was being recorded when the buffer was last freed. */
  freedAt: number;
}

/** How long memory may be. */
export interface BufferLimits {
  /** Most bytes of a tensor or a page. */
  readonly bytesPerBuffer: number;
  /** Most bytes of each of the buffers that it consists of. */
  readonly bytesPerPart: number;
}

// Storages in use and in the pool may take this many times the most that were in use at once, and some more.
const slack = 1.25;
const mostKept = 2 ** 26;

/** Sizes are multiples of this, which every device takes as an offset and which holds whole vectors. */
export const alignment = 256;

/** Allocates buffers and keeps account of them. */
export class Buffers {
  readonly #device: GPUDevice;
  readonly #batch: Batch;
  readonly #budget: number;
  /** Free blocks by size; a size that was freed last stands last. */
  readonly #pool = new Map<number, Block[]>();
  /** All regions there are. */
  readonly #all = new Set<Region>();
  readonly #limits: BufferLimits;
  #pooledBytes = 0;
  #liveBytes = 0;
  #peakBytes = 0;
  #reservedBytes = 0;
  #nextId = 0;

  /** Takes at most `budget` bytes of the device. */
  constructor(
    device: GPUDevice,
    batch: Batch,
    budget: number,
    limits: BufferLimits,
  ) {
    this.#limits = limits;
    this.#device = device;
    this.#batch = batch;
    this.#budget = budget;
  }

  /** Bytes of storages in use. */
  get liveBytes(): number {
    return this.#liveBytes;
  }

  /** Bytes of all regions. */
  get reservedBytes(): number {
    return this.#reservedBytes;
  }

  /** A storage with arbitrary contents. */
  take(bytes: number, wanted: Wanted): GpuStorage {
    const size = roundUp(bytes, alignment);
    const block = this.#reuse(size) ?? this.#allocate(size, wanted);
    this.#liveBytes += bytes;
    this.#peakBytes = Math.max(this.#peakBytes, this.#liveBytes);
    return new GpuStorage(bytes, block);
  }

  /** Takes a storage back. Work that still uses it has been recorded before any that will. */
  give(storage: GpuStorage): void {
    invariant(!storage.freed, "a storage is freed twice");
    storage.freed = true;
    const { block } = storage;
    const { size } = block.region;
    block.freedAt = this.#batch.number;
    const blocks = this.#pool.get(size) ?? [];
    blocks.push(block);
    this.#pool.delete(size);
    this.#pool.set(size, blocks);
    this.#liveBytes -= storage.bytes;
    this.#pooledBytes += size;
  }

  /** Makes room for so many bytes, by freeing the pool where it must; throws where they are beyond the budget. */
  ensure(bytes: number, wanted: Wanted): void {
    const budget = this.#budget;
    if (this.#reservedBytes + bytes <= budget) return;
    const inUse = this.#reservedBytes - this.#pooledBytes;
    if (inUse + bytes > budget) throw outOfMemory(wanted, bytes, inUse, budget);
    this.#trim(0);
  }

  /** A region outside the pool. */
  create(
    size: number,
    usage: GPUBufferUsageFlags,
    wanted: Wanted,
  ): Region {
    const { bytesPerBuffer, bytesPerPart } = this.#limits;
    checkBuffer(wanted, size, bytesPerBuffer);
    this.ensure(size, wanted);
    const region = new Region(this.#device, size, usage, bytesPerPart);
    this.#all.add(region);
    this.#reservedBytes += size;
    return region;
  }

  /** Destroys a region from `create`. */
  destroy(region: Region): void {
    // A submission that names a destroyed buffer would be rejected.
    this.#batch.flush();
    if (this.#all.delete(region)) this.#reservedBytes -= region.size;
    region.destroy();
  }

  /** Destroys all buffers. */
  dispose(): void {
    this.#all.forEach((region) => this.destroy(region));
    this.#pool.clear();
  }

  #reuse(size: number): Block | null {
    const block = this.#pool.get(size)?.pop();
    if (!block) return null;
    this.#pooledBytes -= size;
    return block;
  }

  #allocate(size: number, wanted: Wanted): Block {
    // A loop that repeats itself finds all it needs in the pool. Sizes that do not come back make room for new ones.
    this.#trim(slack * this.#peakBytes + mostKept - this.#liveBytes - size);
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC |
      GPUBufferUsage.COPY_DST;
    const region = this.create(size, usage, wanted);
    return { id: this.#nextId++, region, freedAt: -1 };
  }

  /** Destroys free blocks, the sizes first that were not freed for longest, until at most `bytes` are pooled. */
  #trim(bytes: number): void {
    for (const [size, blocks] of this.#pool) {
      while (this.#pooledBytes > bytes && blocks.length > 0) {
        this.destroy(blocks.shift()!.region);
        this.#pooledBytes -= size;
      }
      if (blocks.length === 0) this.#pool.delete(size);
    }
  }
}

/** The least multiple of `step` that is not below `value`, at least one step. */
export function roundUp(value: number, step: number): number {
  return Math.max(1, Math.ceil(value / step)) * step;
}
