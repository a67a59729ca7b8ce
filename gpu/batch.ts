/**
 * The batch: work that is recorded but not yet submitted. Programs append to it, so that many small ones cost one
 * submission; it goes out when something is read, when it is long, and at the end of the current turn of the event loop.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Region } from "./region.ts";

// Enough to make submissions cheap, little enough that the device starts soon and that no watchdog of a slow one barks.
const mostDispatches = 256;
const mostWork = 2 ** 32;

/** Work that waits to be submitted, in order. */
export class Batch {
  readonly #device: GPUDevice;
  #encoder: GPUCommandEncoder | null = null;
  #pass: GPUComputePassEncoder | null = null;
  #pipeline: GPUComputePipeline | null = null;
  #length = 0;
  #work = 0;
  #number = 0;
  #flushesSoon = false;

  /** Records for a device. */
  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /** How many batches have been submitted: what was recorded at a lower number is on its way. */
  get number(): number {
    return this.#number;
  }

  /** Appends a dispatch that computes about so many terms and results. */
  dispatch(
    pipeline: GPUComputePipeline,
    group: GPUBindGroup,
    [x, y]: readonly [x: number, y: number],
    work: number,
  ): void {
    this.#pass ??= this.#open().beginComputePass();
    if (pipeline !== this.#pipeline) {
      this.#pass.setPipeline(pipeline);
      this.#pipeline = pipeline;
    }
    this.#pass.setBindGroup(0, group);
    this.#pass.dispatchWorkgroups(x, y);
    this.#length++;
    this.#work += work;
    if (this.#length >= mostDispatches || this.#work >= mostWork) this.flush();
  }

  /** Appends a copy from the start of one region to the start of another. */
  copy(from: Region, to: Region, bytes: number): void {
    this.#endPass();
    const encoder = this.#open();
    const targets = to.parts(bytes);
    from.parts(bytes).forEach(({ buffer, size }, i) =>
      encoder.copyBufferToBuffer(buffer, 0, targets[i]!.buffer, 0, size)
    );
  }

  /** Submits what has been recorded. */
  flush(): void {
    if (!this.#encoder) return;
    this.#endPass();
    // Finished and submitted at once: Deno may abort on a command buffer that never is (denoland/deno#29140).
    this.#device.queue.submit([this.#encoder.finish()]);
    this.#encoder = null;
    this.#length = 0;
    this.#work = 0;
    this.#number++;
  }

  #open(): GPUCommandEncoder {
    if (!this.#flushesSoon) {
      this.#flushesSoon = true;
      queueMicrotask(() => {
        this.#flushesSoon = false;
        this.flush();
      });
    }
    return this.#encoder ??= this.#device.createCommandEncoder();
  }

  #endPass(): void {
    this.#pass?.end();
    this.#pass = null;
    this.#pipeline = null;
  }
}
