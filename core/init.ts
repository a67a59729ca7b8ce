/**
 * Choice of the backend.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Backend, BackendName } from "./backend.ts";
import { closeRuntime, createRuntime, setRuntime } from "./context.ts";
import { createReferenceBackend } from "./cpu/interpreter.ts";
import { createWasmBackend } from "./cpu/wasm.ts";
import { DeviceError } from "./errors.ts";

/** Least memory budget: a page of WebAssembly. */
const LEAST = 65536;

/** Which backend to open. */
export interface InitOptions {
  /** "auto" takes a hardware GPU if there is one, else wasm. A software GPU adapter is taken only by name. */
  readonly backend?: "auto" | BackendName;
  /** Width in which f32 is computed; "f64" only on the reference backend, as the oracle of tests. */
  readonly precision?: "f32" | "f64";
  /**
   * Most bytes to take; beyond them a `DeviceError` says what for. 8 GiB on WebGPU when absent, which does not tell how
   * much there is, and 4 GiB elsewhere. Above 4 GiB the wasm backend takes 64-bit addresses, where the engine has them,
   * up to 16 GiB: gathers then take some 10 % longer, a step of training 2 %. A tensor has less than 2 GiB there.
   */
  readonly memory?: number;
  /**
   * Most threads of the wasm backend, counting this one; as many as there are processors when absent, up to 8. Workers
   * start when programs have had enough to do, and results are the same bits on any number of threads.
   */
  readonly threads?: number;
  /**
   * The path of a system's BLAS by which the wasm backend multiplies matrices, or "auto" for the first of OpenBLAS, MKL
   * and Accelerate that is installed; false for the built-in products when absent. It takes Deno and --allow-ffi; where
   * it cannot be had a warning says so, and the built-in products serve. With it the last bits of results depend on the
   * library, and may depend on the number of threads.
   */
  readonly blas?: string | false;
  /** A WebGPU device to use instead of a new one; it stays the caller's to destroy. */
  readonly device?: GPUDevice;
}

/** The backend that was opened. Disposing of it frees its tensors and programs; a backend may also just be left open. */
export interface OpenBackend extends Disposable {
  /** Which backend it is. */
  readonly name: BackendName;
  /** The adapter's own description on WebGPU, what the engine offers on wasm. */
  readonly adapter: string;
}

/**
 * Opens a backend and makes it the current one. Tensors made before stay on theirs.
 *
 * Without `init` the wasm backend is used.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { init } from "cotan";
 *
 * const { name } = await init({ backend: "wasm" });
 * assertEquals(name, "wasm");
 * ```
 */
export async function init(
  options: InitOptions = {},
): Promise<OpenBackend> {
  const backend = await open(options);
  const runtime = createRuntime(backend);
  setRuntime(runtime);
  return {
    name: backend.name,
    adapter: backend.adapter,
    [Symbol.dispose]: () => closeRuntime(runtime),
  };
}

async function open(options: InitOptions): Promise<Backend> {
  const {
    backend = "auto",
    precision = "f32",
    memory,
    threads = 1,
    blas = false,
  } = options;
  if (memory !== undefined && !(memory >= LEAST)) {
    throw new DeviceError(
      `Cannot take ${memory} bytes of memory: a backend needs ${LEAST} at least`,
    );
  }
  if (!(Number.isInteger(threads) && threads >= 1)) {
    throw new DeviceError(
      `Cannot compute on ${threads} threads: their number is 1, which means no workers, or more`,
    );
  }
  if (blas !== false && !(typeof blas === "string" && blas !== "")) {
    throw new DeviceError(
      `Cannot use the BLAS ${
        JSON.stringify(blas)
      }: it is the path of a library, "auto", or false`,
    );
  }
  if (precision === "f64" && backend !== "reference") {
    throw new DeviceError(
      `Cannot compute in f64 on ${backend}: only the reference backend can`,
    );
  }
  switch (backend) {
    case "reference":
      return createReferenceBackend(precision, memory);
    case "wasm":
      return openWasm(options);
    case "webgpu": {
      const gpu = await openGpu(options);
      if (gpu) return gpu;
      throw new DeviceError(
        "Cannot open WebGPU: there is no adapter; use the backend wasm",
      );
    }
    case "auto":
      try {
        return await openGpu(options) ?? openWasm(options);
      } catch (error) {
        if (!(error instanceof DeviceError)) throw error;
        console.warn(`cotan: wasm is used, for WebGPU fails: ${error.message}`);
        return openWasm(options);
      }
    default:
      throw new DeviceError(
        `Cannot open the backend "${backend as string}": there are webgpu, wasm and reference`,
      );
  }
}

function openWasm({ memory, threads, blas }: InitOptions): Backend {
  return createWasmBackend({
    ...(memory !== undefined && { bytes: memory }),
    ...(threads !== undefined && { threads }),
    ...(blas && { blas }),
  });
}

/** Opens WebGPU; a software adapter only where WebGPU is asked for by name. Loaded when needed, so bundles may leave it out. */
async function openGpu(
  { backend, device, memory }: InitOptions,
): Promise<Backend | null> {
  const { openWebGpu } = await import("../gpu/mod.ts");
  const allowFallback = backend === "webgpu";
  return openWebGpu({
    ...(device && { device }),
    ...(memory !== undefined && { memory }),
    allowFallback,
  });
}
