/**
 * The wasm backend: programs as WebAssembly with SIMD, generated at run time.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type {
  Backend,
  BackendMemory,
  Executable,
  Graph,
  Limits,
  Storage,
} from "../backend.ts";
import { bytesPerElement } from "../backend.ts";
import { checkBuffer, type Wanted } from "../budget.ts";
import type { Data, DType } from "../dtype.ts";
import { invariant } from "../errors.ts";
import { isHalf } from "../half.ts";
import type { Plan } from "../plan/kernel.ts";
import { type Shape, sizeOf, type Type } from "../shape.ts";
import { FunctionBuilder } from "./assembler.ts";
import { Lanes } from "./lanes.ts";
import { Heap, LINE } from "./memory.ts";
import { encodeModule } from "./module.ts";
import { ProgramCompiler, tableSize } from "./program.ts";

/** Settings of the wasm backend. */
export interface WasmOptions {
  /** Whether to use relaxed SIMD; by default where the engine has it. */
  readonly relaxed?: boolean;
  /** Most bytes of memory; as many as 32-bit addresses reach when absent. */
  readonly bytes?: number;
}

const ARENA = "the arena of a program";

/** A block of the heap. */
class WasmStorage implements Storage {
  readonly bytes: number;
  readonly address: number;
  isFreed = false;

  constructor(bytes: number, address: number) {
    this.bytes = bytes;
    this.address = address;
  }
}

/** A backend that runs kernels as WebAssembly in this thread. */
export function createWasmBackend(options: WasmOptions = {}): Backend {
  return new WasmBackend(options);
}

class WasmBackend implements Backend {
  readonly name = "wasm";
  readonly adapter: string;
  readonly precision = "f32";
  readonly limits: Limits = {
    buffersPerKernel: 64,
    buffersPerLaunch: Infinity,
    bytesPerBuffer: 2 ** 31 - 65536,
    bytesPerBinding: 2 ** 31,
    alignment: LINE,
  };
  #heapOrNone: Heap | null;
  #compiler: ProgramCompiler;
  #liveBytes = 0;
  /** Memory that all programs share, as they run one at a time: arena pages and scratch. */
  #workspace = { address: 0, bytes: 0 };

  constructor({ relaxed = hasRelaxedSimd(), bytes }: WasmOptions) {
    this.adapter = relaxed ? "wasm: simd, relaxed simd" : "wasm: simd";
    this.#heapOrNone = new Heap(bytes);
    this.#compiler = new ProgramCompiler(relaxed);
  }

  upload(data: Data, dtype: DType, shape: Shape = [data.length]): WasmStorage {
    const bytes = data.length * bytesPerElement(dtype);
    const storage = this.#allocate(bytes, { shape, dtype });
    this.write(storage, dtype, 0, data);
    return storage;
  }

  create({ shape, dtype }: Type): WasmStorage {
    const bytes = sizeOf(shape) * bytesPerElement(dtype);
    return this.#allocate(bytes, { shape, dtype });
  }

  write(storage: Storage, dtype: DType, offset: number, data: Data): void {
    const end = offset + data.length;
    this.#elements(own(storage), dtype, end).set(data, offset);
  }

  download(storage: Storage, dtype: DType, size: number): Promise<Data> {
    const elements = this.#elements(own(storage), dtype, size);
    return Promise.resolve(
      dtype === "bool" ? Uint8Array.from(elements) : elements.slice(),
    );
  }

  free(storage: Storage): void {
    if (!this.#heapOrNone) return;
    const block = own(storage);
    block.isFreed = true;
    this.#liveBytes -= block.bytes;
    this.#heap.free(block.address, block.bytes);
  }

  compile(graph: Graph, _: readonly boolean[], plan: () => Plan): Executable {
    const planned = plan();
    const { module, scratchBytes } = this.#compiler.compile(planned);
    const instance = new WebAssembly.Instance(new WebAssembly.Module(module), {
      env: { memory: this.#heap.memory },
    });
    const run = instance.exports.run as (table: number) => void;
    const offsets: number[] = [];
    let end = 0;
    for (const bytes of [...planned.pages, scratchBytes]) {
      offsets.push(end);
      end += Math.ceil(bytes / LINE) * LINE;
    }
    this.#reserve(end);
    const tableBytes = 4 * tableSize(planned);
    const table = this.#heap.allocate(tableBytes, ARENA);
    // Not the nodes, which would keep the graph.
    const types = graph.outputs.map(({ shape, dtype }) => ({ shape, dtype }));
    return {
      run: (inputs) => this.#run(planned, types, inputs, table, offsets, run),
      dispose: () => this.#heapOrNone?.free(table, tableBytes),
    };
  }

  memory(): BackendMemory {
    return {
      liveBytes: this.#liveBytes,
      reservedBytes: this.#heapOrNone?.reservedBytes ?? 0,
    };
  }

  dispose(): void {
    this.#heapOrNone = null;
    this.#liveBytes = 0;
  }

  get #heap(): Heap {
    invariant(this.#heapOrNone, "the backend is disposed of");
    return this.#heapOrNone;
  }

  #run(
    plan: Plan,
    types: readonly Type[],
    inputs: readonly Storage[],
    table: number,
    offsets: readonly number[],
    run: (table: number) => void,
  ): Storage[] {
    invariant(inputs.length === plan.inputs, "inputs of a program are missing");
    const given = inputs.map(own);
    const fresh: WasmStorage[] = [];
    let outputs: WasmStorage[];
    try {
      outputs = plan.outputs.map((output, i) => {
        if (output.kind === "input") return given[output.index]!;
        const wanted = types[i] ?? "a result";
        const bytes = output.size * bytesPerElement(output.dtype);
        const storage = this.#allocate(bytes, wanted);
        fresh.push(storage);
        return storage;
      });
    } catch (error) {
      for (const storage of fresh) this.free(storage);
      throw error;
    }
    const addresses = [
      ...given.map((s) => s.address),
      ...outputs.map((s) => s.address),
      ...offsets.map((offset) => this.#workspace.address + offset),
    ];
    new Uint32Array(this.#heap.memory.buffer, table).set(addresses);
    run(table);
    for (const index of plan.freed) this.free(given[index]!);
    return outputs;
  }

  #allocate(bytes: number, wanted: Wanted): WasmStorage {
    checkBuffer(wanted, bytes, this.limits.bytesPerBuffer);
    const address = this.#heap.allocate(bytes, wanted);
    const storage = new WasmStorage(bytes, address);
    this.#liveBytes += bytes;
    return storage;
  }

  /** Grows the workspace to hold at least so many bytes. */
  #reserve(bytes: number): void {
    const old = this.#workspace;
    if (bytes <= old.bytes) return;
    if (old.bytes > 0) this.#heap.free(old.address, old.bytes);
    try {
      this.#workspace = { address: this.#heap.allocate(bytes, ARENA), bytes };
    } catch (error) {
      // Programs that were compiled before still run.
      if (old.bytes > 0) old.address = this.#heap.allocate(old.bytes, ARENA);
      throw error;
    }
  }

  #elements(
    { address }: WasmStorage,
    dtype: DType,
    size: number,
  ): Float32Array | Int32Array | Uint32Array | Uint16Array {
    const { buffer } = this.#heap.memory;
    if (isHalf(dtype)) return new Uint16Array(buffer, address, size);
    if (dtype === "f32") return new Float32Array(buffer, address, size);
    if (dtype === "i32") return new Int32Array(buffer, address, size);
    return new Uint32Array(buffer, address, size);
  }
}

function own(storage: Storage): WasmStorage {
  invariant(
    storage instanceof WasmStorage && !storage.isFreed,
    "a storage is freed or another backend's",
  );
  return storage;
}

/** Whether the engine accepts a function with a fused multiply-add. */
function hasRelaxedSimd(): boolean {
  const code = new FunctionBuilder(0);
  const lanes = new Lanes(code, true);
  lanes.madd(1, 1, 1);
  return WebAssembly.validate(encodeModule([code.finish()]));
}
