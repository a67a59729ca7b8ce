/**
 * Tests that run once for each backend.
 *
 * @module
 */

import { type BackendName, init } from "cotan";

/** The backends, the oracle first. */
export const backendNames: readonly BackendName[] = [
  "reference",
  "wasm",
  "webgpu",
];

// Without it the Vulkan loader prints a line.
if (!Deno.env.has("XDG_RUNTIME_DIR")) Deno.env.set("XDG_RUNTIME_DIR", "/tmp");

/** Whether tests of WebGPU run: with any adapter, a software one too. In CI they run, and fail, without one as well. */
export const hasWebGpu: boolean = Deno.env.get("CI") === "true" ||
  !!await navigator.gpu?.requestAdapter();

/** Registers a test for each of the backends; a fresh one is current while it runs, and is disposed of afterwards. */
export function eachBackend(
  name: string,
  f: (backend: BackendName, t: Deno.TestContext) => void | Promise<void>,
  backends: readonly BackendName[] = backendNames,
  ignore = false,
): void {
  for (const backend of backends) {
    Deno.test({
      name: `${name} (${backend})`,
      ignore: ignore || backend === "webgpu" && !hasWebGpu,
      fn: async (t) => {
        using _ = await init({ backend });
        await f(backend, t);
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
