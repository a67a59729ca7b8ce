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
import { type AddressBits, functionOf } from "./assembler.ts";
import { type Blas, openBlas } from "./blas.ts";
import { fusedKinds } from "./fused.ts";
import { Lanes } from "./lanes.ts";
import { Heap, LINE } from "./memory.ts";
import { encodeModule } from "./module.ts";
import { QUAD } from "./pointers.ts";
import {
  type InputPack,
  type Keeping,
  type Packable,
  Packs,
  type Reads,
  WORTH_KEEPING,
} from "./packs.ts";
import { ProgramCompiler } from "./program.ts";
import { ownStride, tableSize } from "./run.ts";
import { Team, type TeamProgram } from "./team.ts";
import { hasWorkers } from "./threads.ts";
import { bitsFor } from "./address_bits.ts";
import type { Run } from "./worker.ts";

/** Settings of the wasm backend. */
export interface WasmOptions {
  /** Whether to use relaxed SIMD; by default where the engine has it. */
  readonly relaxed?: boolean;
  /** Most bytes of memory: more than 4 GiB take 64-bit addresses. As many as 32-bit addresses reach when absent. */
  readonly bytes?: number;
  /** Most threads, with this one; as many as there are processors when absent, up to 8. */
  readonly threads?: number;
  /**
   * Divides whatever can be divided, from the first run on, and gives a BLAS whatever it can take, so that tests of small
   * sizes go through threads and it.
   */
  readonly eager?: boolean;
  /** Milliseconds after which a worker that does not answer is given up. */
  readonly patience?: number;
  /** The path of a BLAS to multiply matrices with, or "auto" for one of the known names; none when absent. */
  readonly blas?: string;
}

/** Most threads when their number is not given: more are of little use to most programs. */
const MOST_THREADS = 8;

/** Nanoseconds that are worth a barrier, that are worth telling workers or waking them, and that are worth starting them. */
const WORTH = {
  barrier: 10_000,
  telling: 10_000,
  waking: 50_000,
  starting: 100_000_000,
};

/** The same where all work is divided. */
const EAGER = { barrier: 0, telling: 0, waking: 0, starting: 0 };

/** Keeps all packs. */
const KEEP_ALL: Keeping = { leastElements: 0, mostRows: Infinity };

/** Least multiplications of a product for which calling a BLAS is worth its while. */
const LEAST_FOR_BLAS = 2 ** 13;

/** Two minutes: threads that share a step are never so far apart. */
const PATIENCE = 120_000;

/** Ends the workers of backends that were left open. */
const abandoned = new FinalizationRegistry<Team>((team) => team.stop());

const ARENA = "the arena of a program", SCRATCH = "the scratch of a program";

/** A block of the heap. */
class WasmStorage implements Storage, Packable {
  readonly bytes: number;
  readonly address: number;
  isFreed = false;
  reads: Reads | null = null;

  constructor(bytes: number, address: number) {
    this.bytes = bytes;
    this.address = address;
  }
}

/** A backend that runs kernels as WebAssembly in this thread and in workers. */
export function createWasmBackend(options: WasmOptions = {}): Backend {
  return new WasmBackend(options);
}

class WasmBackend implements Backend {
  readonly name = "wasm";
  readonly adapter: string;
  readonly precision = "f32";
  readonly limits: Limits;
  #heapOrNone: Heap | null;
  #blas: Blas | null;
  #team: Team | null;
  #compiler: ProgramCompiler;
  #packs: Packs | null;
  #liveBytes = 0;
  /** Memory that all programs share, as they run one at a time: arena pages and scratch. */
  #workspace = { address: 0, bytes: 0 };

  constructor(options: WasmOptions) {
    const { relaxed = hasRelaxedSimd(), bytes, eager = false } = options;
    const bits = bitsFor(bytes ?? 0);
    const wanted = options.threads ?? Math.min(processors(), MOST_THREADS);
    const shared = wanted > 1 && hasWorkers() ? sharedHeap(bits, bytes) : null;
    const threads = shared ? wanted : 1;
    const heap = shared ?? new Heap(bytes, false, bits);
    this.#heapOrNone = heap;
    this.#packs = new Packs(heap);
    this.#blas = options.blas === undefined
      ? null
      : blasOr(options.blas, heap.memory);
    this.limits = {
      buffersPerKernel: 64,
      buffersPerLaunch: Infinity,
      bytesPerBuffer: 2 ** 31 - 65536,
      bytesPerBinding: 2 ** 31,
      unpacksOperands: true,
      alignment: LINE,
      hasBlas: this.#blas !== null,
      fused: fusedKinds,
    };
    this.adapter = [
      "wasm: simd",
      ...relaxed ? ["relaxed simd"] : [],
      ...bits === 64 ? ["64-bit memory"] : [],
      threads === 1 ? "1 thread" : `${threads} threads`,
      ...this.#blas ? [this.#blas.path.replace(/.*[/\\]/, "")] : [],
    ].join(", ");
    const { barrier, ...worth } = eager ? EAGER : WORTH;
    const { patience = PATIENCE } = options;
    this.#team = shared && new Team(shared, threads, {
      ...worth,
      patience,
      blas: this.#blas?.path ?? null,
    });
    if (this.#team) abandoned.register(this, this.#team, this);
    const grain = eager ? QUAD : LINE / 4;
    this.#compiler = new ProgramCompiler({
      bits,
      relaxed,
      leastForBlas: !this.#blas ? Infinity : eager ? 0 : LEAST_FOR_BLAS,
      keeping: eager ? KEEP_ALL : WORTH_KEEPING,
      division: shared && { threads, leastWork: barrier, grain },
    });
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
    const block = own(storage);
    this.#packs?.forget(block);
    this.#elements(block, dtype, end).set(data, offset);
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
    this.#packs?.forget(block);
  }

  compile(
    graph: Graph,
    donated: readonly boolean[],
    plan: () => Plan,
  ): Executable {
    const planned = plan();
    const { module, scratch, packs, saved } = this.#compiler.compile(
      planned,
      donated,
    );
    for (const bytes of [scratch.common, scratch.own]) {
      checkBuffer(SCRATCH, bytes, this.limits.bytesPerBuffer);
    }
    const instance = new WebAssembly.Instance(new WebAssembly.Module(module), {
      env: {
        memory: this.#heap.memory,
        sgemm: this.#blas?.sgemm ?? (() => {}),
      },
    });
    const run = instance.exports.run as Run;
    const threads = this.#team?.threads ?? 1;
    const own = threads * ownStride(scratch.own);
    const offsets: number[] = [];
    let end = 0;
    for (const bytes of [...planned.pages, scratch.common, own]) {
      offsets.push(end);
      end += Math.ceil(bytes / LINE) * LINE;
    }
    this.#reserve(end);
    const tableBytes = 4 * (tableSize(planned) + packs.length);
    const table = this.#heap.allocate(tableBytes, ARENA);
    const code = this.#team && module;
    const program = { run, table: table / LINE, saved, code, number: 0, packs };
    // Not the nodes, which would keep the graph.
    const types = graph.outputs.map(({ shape, dtype }) => ({ shape, dtype }));
    return {
      run: (inputs) => this.#run(planned, types, inputs, offsets, program),
      dispose: () => {
        if (!this.#heapOrNone) return;
        this.#heap.free(table, tableBytes);
        this.#packs?.leave(program);
      },
    };
  }

  memory(): BackendMemory {
    return {
      liveBytes: this.#liveBytes,
      reservedBytes: this.#heapOrNone?.reservedBytes ?? 0,
    };
  }

  dispose(): void {
    this.#team?.stop();
    this.#team = null;
    abandoned.unregister(this);
    this.#blas?.close();
    this.#blas = null;
    this.#heapOrNone = null;
    this.#packs = null;
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
    offsets: readonly number[],
    program: TeamProgram & { readonly packs: readonly InputPack[] },
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
    const { run, table } = program, packs = this.#packs!;
    const prepare = () => {
      addresses.push(...packs.find(program, program.packs, given));
      const { buffer } = this.#heap.memory;
      const words = new Uint32Array(buffer, table * LINE, addresses.length);
      words.set(addresses.map((address) => address / LINE));
    };
    if (this.#team) {
      this.#team.run(program, prepare);
    } else {
      prepare();
      run(table, 0, 1);
    }
    packs.complete();
    // What is donated has other contents from now on.
    for (const output of plan.outputs) {
      if (output.kind === "input") packs.forget(given[output.index]!);
    }
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
  const { code } = functionOf(32, "");
  const lanes = new Lanes(code, true);
  lanes.madd(1, 1, 1);
  return WebAssembly.validate(encodeModule([code.finish()]));
}

/** A BLAS, or null and a warning that says why. */
function blasOr(wanted: string, memory: WebAssembly.Memory): Blas | null {
  const found = openBlas(wanted, memory);
  if ("sgemm" in found) return found;
  console.warn(`cotan: the built-in products are used, for ${found.refusal}`);
  return null;
}

/** How many processors there are, as far as that is told. */
function processors(): number {
  return globalThis.navigator?.hardwareConcurrency ?? 1;
}

/** A heap that threads may share, or null where that much memory cannot be had so. */
function sharedHeap(bits: AddressBits, bytes?: number): Heap | null {
  try {
    return new Heap(bytes, true, bits);
  } catch {
    return null;
  }
}
