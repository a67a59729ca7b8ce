/**
 * Regions: memory on the device, one buffer as a rule, and several where it is longer than a buffer may be.
 *
 * This module is browser compatible.
 *
 * @module
 */

/** A part of a region within one buffer. */
export interface RegionPart {
  /** The buffer. */
  readonly buffer: GPUBuffer;
  /** Where the part begins in the region. */
  readonly from: number;
  /** Bytes of the part. */
  readonly size: number;
}

/** Bytes that follow one another in one buffer, or in several of which each but the last has `most` bytes. */
export class Region {
  readonly #buffers: readonly GPUBuffer[];
  readonly #most: number;

  /** Makes the buffers of a region. */
  constructor(
    device: GPUDevice,
    readonly size: number,
    usage: GPUBufferUsageFlags,
    most: number,
  ) {
    this.#most = most;
    const count = Math.max(1, Math.ceil(size / most));
    this.#buffers = Array.from(
      { length: count },
      (_, i) =>
        device.createBuffer({ size: Math.min(size - i * most, most), usage }),
    );
  }

  /** The first bytes, buffer by buffer. */
  parts(bytes: number): RegionPart[] {
    return this.#buffers.map((buffer, i) => {
      const from = i * this.#most;
      return { buffer, from, size: Math.min(bytes - from, buffer.size) };
    }).filter(({ size }) => size > 0);
  }

  /** The binding of bytes that lie in one buffer. */
  binding(from: number, size: number): GPUBufferBinding {
    const at = Math.floor(from / this.#most);
    return { buffer: this.#buffers[at]!, offset: from - at * this.#most, size };
  }

  /** Destroys the buffers. */
  destroy(): void {
    this.#buffers.forEach((buffer) => buffer.destroy());
  }
}
