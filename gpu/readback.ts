/**
 * Reading back: a copy into a buffer that the host can map, taken when it is asked for, so that later work does not
 * change it.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { DeviceError } from "../core/errors.ts";
import type { Batch } from "./batch.ts";
import { type Buffers, type GpuStorage, roundUp } from "./buffers.ts";
import type { Device } from "./device.ts";

// Larger ones are destroyed after use.
const mostKept = 2 ** 20;

/** Reads storages back. */
export class Readback {
  readonly #free: GPUBuffer[] = [];

  /** Takes its buffers from `buffers`. */
  constructor(
    readonly device: Device,
    readonly batch: Batch,
    readonly buffers: Buffers,
  ) {}

  /** The first bytes of a storage as they are after all work so far. */
  async read(storage: GpuStorage, bytes: number): Promise<ArrayBuffer> {
    const staging = this.#take(bytes);
    this.batch.copy(storage.block.buffer, staging, bytes);
    this.batch.flush();
    try {
      await staging.mapAsync(GPUMapMode.READ, 0, bytes);
    } catch (cause) {
      this.device.check();
      throw new DeviceError("Cannot read from the WebGPU device", { cause });
    }
    // The device may be gone by now, and the buffer with it.
    this.device.check();
    const copy = staging.getMappedRange(0, bytes).slice(0);
    staging.unmap();
    this.#give(staging);
    return copy;
  }

  #take(bytes: number): GPUBuffer {
    const at = this.#free.findIndex(({ size }) => size >= bytes);
    if (at >= 0) return this.#free.splice(at, 1)[0]!;
    const size = bytes > mostKept ? bytes : roundUp(bytes, 4096);
    const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
    return this.buffers.create(size, usage, "a copy to read");
  }

  #give(buffer: GPUBuffer): void {
    if (buffer.size > mostKept || this.#free.length >= 8) {
      this.buffers.destroy(buffer);
    } else {
      this.#free.push(buffer);
    }
  }
}
