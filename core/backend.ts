/**
 * The contract of a backend: storages on a device, and graphs compiled to programs.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Data, DType } from "./dtype.ts";
import type { FusedKind } from "./fused_spec.ts";
import { isHalf } from "./half.ts";
import type { Graph } from "./node.ts";
import type { Plan } from "./plan/kernel.ts";
import type { Shape, Type } from "./shape.ts";

/** Name of a backend. */
export type BackendName = "webgpu" | "wasm" | "reference";

/** Elements on a device; each backend has its own kind. */
export interface Storage {
  /** Size on the device. */
  readonly bytes: number;
}

export type { Graph };

/** A compiled program. */
export interface Executable {
  /**
   * Runs the program: one storage for each output. Donated inputs belong to the program from then on: it frees them or
   * returns them as outputs. Everything else stays the caller's.
   */
  run(inputs: readonly Storage[]): Storage[];
  /** Frees what the program keeps on the device. */
  dispose(): void;
}

/** What the planner must respect. */
export interface Limits {
  /** Most buffers of one kernel. */
  readonly buffersPerKernel: number;
  /** Most buffers of a group of kernels in one launch. */
  readonly buffersPerLaunch: number;
  /** Most bytes of one buffer or arena page. */
  readonly bytesPerBuffer: number;
  /** Most bytes of a buffer that count as one of a kernel's buffers: a multiple of 256. */
  readonly bytesPerBinding: number;
  /** Slots and storages start at multiples of this many bytes. */
  readonly alignment: number;
  /** Whether products compute of packed operands, as they read them, what their words stand for. */
  readonly unpacksOperands?: boolean;
  /** Whether products are several times as fast as within kernels of fused functions: those of a BLAS are. */
  readonly hasBlas?: boolean;
  /** Which fused functions it has kernels for; none when absent. */
  readonly fused?: ReadonlySet<FusedKind>;
}

/** What a backend holds. */
export interface BackendMemory {
  /** Bytes of storages that are in use. */
  readonly liveBytes: number;
  /** Bytes taken from the system: storages, arenas, pools, packs. */
  readonly reservedBytes: number;
}

/** A device that holds tensors and runs programs. All calls are synchronous but `download`. */
export interface Backend {
  /** Which backend this is. */
  readonly name: BackendName;
  /** The adapter's own description on WebGPU, what the engine offers on wasm. */
  readonly adapter: string;
  /** Width in which "f32" is stored and computed; f64 only on the reference. */
  readonly precision: "f32" | "f64";
  /** What the planner must respect. */
  readonly limits: Limits;
  /** A storage for elements of a type, with arbitrary contents until `write` sets them. */
  create(type: Type): Storage;
  /**
   * Copies host data over the elements of a storage from `offset` on, before it returns; its array type fits the dtype.
   * Halves are written from an even offset on, as words.
   */
  write(storage: Storage, dtype: DType, offset: number, data: Data): void;
  /** Copies host data to a new storage; its array type fits the dtype, of halves the bits. The shape stands in errors. */
  upload(data: Data, dtype: DType, shape?: Shape): Storage;
  /** Reads `size` elements back: a fresh array. */
  download(storage: Storage, dtype: DType, size: number): Promise<Data>;
  /** Frees a storage. */
  free(storage: Storage): void;
  /**
   * Compiles a graph. `donated` tells of each input whether the program may take it over. A backend that runs kernels
   * calls `plan`; the interpreter walks the graph itself.
   */
  compile(
    graph: Graph,
    donated: readonly boolean[],
    plan: () => Plan,
  ): Executable;
  /** What the backend holds now. */
  memory(): BackendMemory;
  /** Frees everything; tensors of the backend cannot be used any more. */
  dispose(): void;
}

/** Bytes of an element on the device: bools take a whole word. */
export function bytesPerElement(
  dtype: DType,
  precision: "f32" | "f64" = "f32",
): number {
  if (isHalf(dtype)) return 2;
  return precision === "f64" && dtype === "f32" ? 8 : 4;
}
