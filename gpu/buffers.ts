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
  /** The buffer. */
  readonly buffer: GPUBuffer;
  /** The batch that was being recorded when the buffer was last freed. */
  freedAt: number;
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
  /** All buffers there are. */
  readonly #all = new Set<GPUBuffer>();
  #pooledBytes = 0;
  #liveBytes = 0;
  #peakBytes = 0;
  #reservedBytes = 0;
  #nextId = 0;

  /** Takes at most `budget` bytes of the device. */
  constructor(device: GPUDevice, batch: Batch, budget: number) {
    this.#device = device;
    this.#batch = batch;
    this.#budget = budget;
  }

  /** Bytes of storages in use. */
  get liveBytes(): number {
    return this.#liveBytes;
  }

  /** Bytes of all buffers. */
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
    const { size } = block.buffer;
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

  /** A buffer outside the pool. */
  create(
    size: number,
    usage: GPUBufferUsageFlags,
    wanted: Wanted,
  ): GPUBuffer {
    checkBuffer(wanted, size, this.#device.limits.maxBufferSize);
    this.ensure(size, wanted);
    const buffer = this.#device.createBuffer({ size, usage });
    this.#all.add(buffer);
    this.#reservedBytes += size;
    return buffer;
  }

  /** Destroys a buffer from `create`. */
  destroy(buffer: GPUBuffer): void {
    // A submission that names a destroyed buffer would be rejected.
    this.#batch.flush();
    if (this.#all.delete(buffer)) this.#reservedBytes -= buffer.size;
    buffer.destroy();
  }

  /** Destroys all buffers. */
  dispose(): void {
    this.#all.forEach((buffer) => this.destroy(buffer));
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
    const buffer = this.create(size, usage, wanted);
    return { id: this.#nextId++, buffer, freedAt: -1 };
  }

  /** Destroys free blocks, the sizes first that were not freed for longest, until at most `bytes` are pooled. */
  #trim(bytes: number): void {
    for (const [size, blocks] of this.#pool) {
      while (this.#pooledBytes > bytes && blocks.length > 0) {
        this.destroy(blocks.shift()!.buffer);
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
