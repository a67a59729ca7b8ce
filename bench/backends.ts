/**
 * The backends that benches run on, and how a bench moves from one to the next.
 *
 * @module
 */

import { type BackendName, init, type OpenBackend, type Tensor } from "cotan";

/** How many threads wasm computes on, where `COTAN_THREADS` tells. */
const threads = Deno.env.get("COTAN_THREADS");

function open(backend: BackendName): Promise<OpenBackend> {
  return init({ backend, ...threads && { threads: Number(threads) } });
}

/** Backends that open here; a software WebGPU adapter counts. */
export async function availableBackends(): Promise<BackendName[]> {
  const { adapter } = await open("wasm");
  console.log(`wasm: ${adapter}, ${navigator.hardwareConcurrency} cores`);
  try {
    const { adapter } = await open("webgpu");
    console.log(`webgpu: ${adapter}`);
    return ["wasm", "webgpu"];
  } catch {
    console.log("webgpu: no adapter");
    return ["wasm"];
  }
}

/** What is being measured now: benches run one after another, each many times. */
let current = "";

/** Registers a bench on a backend. `setup` runs once, before the first (unmeasured) run, and returns what is measured. */
export function benchOn(
  backend: BackendName,
  group: string,
  label: string,
  setup: () => Promise<() => Promise<void>>,
  baseline: boolean = backend === "wasm",
): void {
  const name = `${backend}: ${label}`;
  let run: () => Promise<void>;
  Deno.bench({
    name,
    group,
    baseline,
    async fn() {
      if (current !== name) {
        await open(backend);
        run = await setup();
        current = name;
      }
      await run();
    },
  });
}

/** Waits until a tensor is computed, since a GPU only queues work until something is read, and frees it. */
export async function settle(result: Tensor): Promise<void> {
  await result.data();
  result.dispose();
}
