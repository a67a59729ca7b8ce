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
import type { Region } from "./region.ts";

// Larger ones are destroyed after use.
const mostKept = 2 ** 20;

/** Reads storages back. */
export class Readback {
  readonly #free: Region[] = [];

  /** Takes its buffers from `buffers`. */
  constructor(
    readonly device: Device,
    readonly batch: Batch,
    readonly buffers: Buffers,
  ) {}

  /** The first bytes of a storage as they are after all work so far. */
  async read(storage: GpuStorage, bytes: number): Promise<ArrayBuffer> {
    const staging = this.#take(bytes);
    this.batch.copy(storage.block.region, staging, bytes);
    this.batch.flush();
    const parts = staging.parts(bytes);
    try {
      await Promise.all(
        parts.map(({ buffer, size }) =>
          buffer.mapAsync(GPUMapMode.READ, 0, size)
        ),
      );
    } catch (cause) {
      this.device.check();
      throw new DeviceError("Cannot read from the WebGPU device", { cause });
    }
    // The device may be gone by now, and the buffer with it.
    this.device.check();
    const copy = new Uint8Array(bytes);
    for (const { buffer, from, size } of parts) {
      copy.set(new Uint8Array(buffer.getMappedRange(0, size)), from);
      buffer.unmap();
    }
    this.#give(staging);
    return copy.buffer;
  }

  #take(bytes: number): Region {
    const at = this.#free.findIndex(({ size }) => size >= bytes);
    if (at >= 0) return this.#free.splice(at, 1)[0]!;
    const size = bytes > mostKept ? bytes : roundUp(bytes, 4096);
    const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
    return this.buffers.create(size, usage, "a copy to read");
  }

  #give(region: Region): void {
    if (region.size > mostKept || this.#free.length >= 8) {
      this.buffers.destroy(region);
    } else {
      this.#free.push(region);
    }
  }
}
