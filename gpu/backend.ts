/**
 * The WebGPU backend: storages on a device, and plans compiled to programs of compute shaders.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  type Backend,
  type BackendMemory,
  bytesPerElement,
  type Executable,
  type Graph,
  type Limits,
  type Storage,
} from "../core/backend.ts";
import { ADDRESSABLE } from "../core/budget.ts";
import { type Data, type DType, toData } from "../core/dtype.ts";
import { DeviceError } from "../core/errors.ts";
import { isHalf } from "../core/half.ts";
import type { Plan } from "../core/plan/kernel.ts";
import { type Shape, sizeOf, type Type } from "../core/shape.ts";
import { Arena } from "./arena.ts";
import { Batch } from "./batch.ts";
import {
  alignment,
  type BufferLimits,
  Buffers,
  GpuStorage,
  roundUp,
} from "./buffers.ts";
import type { Device } from "./device.ts";
import { GpuProgram, type Machine } from "./executor.ts";
import { Pipelines } from "./pipelines.ts";
import { Readback } from "./readback.ts";
import type { Schedule } from "./schedule.ts";
import type { GpuLimits } from "./windows.ts";

/** Bytes that are written to the device between two submissions. */
const mostWritten = 2 ** 20;

/** A backend on a WebGPU device. */
export class WebGpuBackend implements Backend {
  readonly name = "webgpu";
  readonly precision = "f32";
  readonly adapter: string;
  readonly limits: Limits;
  readonly #machine: Machine;
  readonly #readback: Readback;
  #writtenBytes = 0;

  /**
   * Runs on a device with a schedule that suits it, and takes at most `budget` bytes of it; bindings and buffers are as
   * long as the device allows unless told otherwise.
   */
  constructor(
    device: Device,
    schedule: Schedule,
    budget: number,
    longest: Longest = device.gpu.limits,
  ) {
    const { gpu, description } = device;
    const limits = limitsOf(longest);
    const batch = new Batch(gpu);
    const buffers = new Buffers(gpu, batch, budget, limits);
    this.adapter = description;
    this.limits = limits;
    this.#machine = {
      device,
      schedule,
      limits,
      batch,
      buffers,
      arena: new Arena(buffers),
      pipelines: new Pipelines(device),
    };
    this.#readback = new Readback(device, batch, buffers);
  }

  upload(data: Data, dtype: DType, shape: Shape = [data.length]): GpuStorage {
    const { device, buffers } = this.#machine;
    device.check();
    const bytes = data.length * bytesPerElement(dtype);
    const storage = buffers.take(bytes, { shape, dtype });
    this.write(storage, dtype, 0, data);
    return storage;
  }

  create({ shape, dtype }: Type): GpuStorage {
    const { device, buffers } = this.#machine;
    device.check();
    const bytes = sizeOf(shape) * bytesPerElement(dtype);
    return buffers.take(bytes, { shape, dtype });
  }

  write(storage: Storage, dtype: DType, offset: number, data: Data): void {
    const { device, batch } = this.#machine;
    device.check();
    const { block } = own(storage);
    // Deno aborts the process on an empty write.
    if (data.length === 0) return;
    // Queue writes overtake what is recorded but not submitted, which may still use the buffer.
    if (block.freedAt === batch.number) batch.flush();
    const words = toWords(data, dtype);
    const start = offset * bytesPerElement(dtype);
    const end = start + words.byteLength;
    for (const { buffer, from, size } of block.region.parts(end)) {
      const first = Math.max(start, from), last = from + size;
      if (first >= last) continue;
      const { queue } = device.gpu;
      queue.writeBuffer(
        buffer,
        first - from,
        words,
        first - start,
        last - first,
      );
    }
    // The queue holds copies of what it writes until the next submission.
    this.#writtenBytes += words.byteLength;
    if (this.#writtenBytes < mostWritten) return;
    this.#writtenBytes = 0;
    device.gpu.queue.submit([]);
  }

  async download(storage: Storage, dtype: DType, size: number): Promise<Data> {
    const { device } = this.#machine;
    device.check();
    const bytes = size === 0 ? new ArrayBuffer(0) : await this.#readback.read(
      own(storage),
      roundUp(size * bytesPerElement(dtype), 4),
    );
    await device.settled();
    return fromWords(bytes, dtype, size);
  }

  free(storage: Storage): void {
    this.#machine.buffers.give(own(storage));
  }

  compile(
    graph: Graph,
    _donated: readonly boolean[],
    plan: () => Plan,
  ): Executable {
    this.#machine.device.check();
    return new GpuProgram(this.#machine, plan(), graph.outputs);
  }

  memory(): BackendMemory {
    const { liveBytes, reservedBytes } = this.#machine.buffers;
    return { liveBytes, reservedBytes };
  }

  dispose(): void {
    const { device, batch, buffers } = this.#machine;
    batch.flush();
    buffers.dispose();
    device.dispose();
  }
}

/** Bytes of the longest buffer and the longest binding. */
type Longest = Pick<
  GPUSupportedLimits,
  "maxBufferSize" | "maxStorageBufferBindingSize"
>;

/** What follows from them: where bindings are as long as buffers, tensors may have several buffers. */
function limitsOf(
  { maxBufferSize, maxStorageBufferBindingSize }: Longest,
): GpuLimits & BufferLimits {
  const whole = Math.floor(
    Math.min(maxBufferSize, maxStorageBufferBindingSize) / alignment,
  ) * alignment;
  const isSplit = maxBufferSize <= maxStorageBufferBindingSize;
  return {
    buffersPerKernel: 8,
    buffersPerLaunch: 8,
    bytesPerBuffer: isSplit ? ADDRESSABLE : maxBufferSize,
    bytesPerBinding: whole,
    bytesPerPart: isSplit ? whole : maxBufferSize,
    bindingStep: isSplit ? whole : alignment,
    alignment,
  };
}

/** A storage of this kind of backend. */
function own(storage: Storage): GpuStorage {
  if (storage instanceof GpuStorage) return storage;
  throw new DeviceError("A tensor of another backend was passed to WebGPU");
}

/** Elements as words of four bytes in memory that is not shared, which queues may not take. */
function toWords(data: Data, dtype: DType): Uint8Array<ArrayBuffer> {
  const words = dtype === "bool"
    ? Uint32Array.from(data)
    : isHalf(dtype)
    ? inPairs(data)
    : toData(data, dtype);
  const { buffer, byteOffset, byteLength } = words;
  return buffer instanceof ArrayBuffer
    ? new Uint8Array(buffer, byteOffset, byteLength)
    : new Uint8Array(words.slice().buffer as ArrayBuffer);
}

/** Halves with one more where they do not fill the last word. */
function inPairs(halves: Data): Data {
  if (halves.length % 2 === 0) return halves;
  const padded = new Uint16Array(halves.length + 1);
  padded.set(halves);
  return padded;
}

function fromWords(bytes: ArrayBuffer, dtype: DType, size: number): Data {
  switch (dtype) {
    case "f16":
    case "bf16":
      return new Uint16Array(bytes, 0, size);
    case "f32":
      return new Float32Array(bytes);
    case "i32":
      return new Int32Array(bytes);
    case "u32":
      return new Uint32Array(bytes);
    case "bool":
      return Uint8Array.from(new Uint32Array(bytes));
  }
}
