/**
 * Tests that run once for each backend.
 *
 * @module
 */

import { type BackendName, init } from "cotan";
import { closeRuntime, createRuntime, setRuntime } from "../../core/context.ts";
import { createWasmBackend } from "../../core/cpu/wasm.ts";
import { collectGarbage } from "./runs.ts";

/** The backends, the oracle first. */
export const backendNames: readonly BackendName[] = [
  "reference",
  "wasm",
  "webgpu",
];

/** A backend, or wasm with all work divided among threads, be it ever so little. */
export type TestBackend = BackendName | "threads";

/** The backends, and threads. */
export const withThreads: readonly TestBackend[] = [...backendNames, "threads"];

/** Tests on wasm divide all work among so many threads, where this variable is set. */
const forced = Number(Deno.env.get("COTAN_THREADS") ?? 0);

// Without it the Vulkan loader prints a line.
if (!Deno.env.has("XDG_RUNTIME_DIR")) Deno.env.set("XDG_RUNTIME_DIR", "/tmp");

/** Whether tests of WebGPU run: with any adapter, a software one too. In CI they run, and fail, without one as well. */
export const hasWebGpu: boolean = Deno.env.get("CI") === "true" ||
  !!await navigator.gpu?.requestAdapter();

async function open(backend: TestBackend): Promise<Disposable> {
  const isThreaded = backend === "threads" || backend === "wasm" && forced > 0;
  if (!isThreaded) return await init({ backend: backend as BackendName });
  const threads = forced || 2;
  const runtime = createRuntime(createWasmBackend({ threads, eager: true }));
  setRuntime(runtime);
  return { [Symbol.dispose]: () => closeRuntime(runtime) };
}

/** Registers a test for each of the backends; a fresh one is current while it runs, and is disposed of afterwards. */
export function eachBackend(
  name: string,
  f: (backend: BackendName, t: Deno.TestContext) => void | Promise<void>,
  backends: readonly TestBackend[] = backendNames,
  ignore = false,
): void {
  for (const backend of backends) {
    Deno.test({
      name: `${name} (${backend})`,
      ignore: ignore || backend === "webgpu" && !hasWebGpu,
      fn: async (t) => {
        {
          using _ = await open(backend);
          await f(backend === "threads" ? "wasm" : backend, t);
        }
        await collectGarbage();
      },
    });
  }
}

/** Registers a test that runs on the reference backend in float64. */
export function inFloat64(
  name: string,
  f: (t: Deno.TestContext) => void | Promise<void>,
  ignore = false,
): void {
  Deno.test({
    name: `${name} (float64)`,
    ignore,
    fn: async (t) => {
      using _ = await init({ backend: "reference", precision: "f64" });
      await f(t);
    },
  });
}
