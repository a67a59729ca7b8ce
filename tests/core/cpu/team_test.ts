import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import { jit, random, type Tensor } from "cotan";
import {
  closeRuntime,
  createRuntime,
  withRuntime,
} from "../../../core/context.ts";
import { createWasmBackend, type WasmOptions } from "../../../core/cpu/wasm.ts";
import type { Orders } from "../../../core/cpu/worker.ts";
import { DeviceError } from "../../../core/errors.ts";
import type { Plan } from "../../../core/plan/kernel.ts";
import { load, noise, whole } from "./support.ts";

/** Node's workers, of which a test may see and change what is started. */
type Workers = typeof import("node:worker_threads");
type NodeWorker = InstanceType<Workers["Worker"]>;
type Process = { getBuiltinModule(name: string): Workers };

/** Calls `f` while workers are started by `hire` instead; gives those that were. */
async function hiring(
  hire: (start: () => NodeWorker, orders: Orders) => NodeWorker,
  f: (workers: NodeWorker[]) => Promise<void> | void,
): Promise<void> {
  const { process } = globalThis as unknown as { process: Process };
  const { getBuiltinModule } = process;
  const started: NodeWorker[] = [];
  const real = getBuiltinModule("node:worker_threads");
  process.getBuiltinModule = () => ({
    ...real,
    Worker: function (code: string, options: { workerData: Orders }) {
      const { workerData } = options;
      const worker = hire(() => new real.Worker(code, options), workerData);
      started.push(worker);
      return worker;
    } as unknown as Workers["Worker"],
  });
  try {
    await f(started);
  } finally {
    process.getBuiltinModule = getBuiltinModule;
  }
}

/** A backend and a program over 1000 floats; those of the last half are read so far away. */
function doubling(options: WasmOptions, distance = 0) {
  const backend = createWasmBackend({ threads: 2, eager: true, ...options });
  const view = whole([2, 500]);
  const far = { offset: view.offset, strides: [500 + distance, 1] };
  const x = load(0, far);
  const plan: Plan = {
    inputs: 1,
    outputs: [{ kind: "new", size: 1000, dtype: "f32" }],
    freed: [],
    steps: [{
      kernel: {
        kind: "map",
        shape: [2, 500],
        outputs: [{
          buffer: 1,
          view,
          expr: { kind: "call", op: "add", args: [x, x], dtype: "f32" },
        }],
      },
      buffers: [{ kind: "input", index: 0 }, { kind: "output", index: 0 }],
      dtypes: ["f32", "f32"],
    }],
    pages: [],
    loops: [],
  };
  const graph = { inputs: [], outputs: [] };
  const program = backend.compile(graph, [false], () => plan);
  const input = backend.upload(Float32Array.from(noise(1000)), "f32");
  return {
    backend,
    run: async () => {
      const [y] = program.run([input]);
      return Array.from(await backend.download(y!, "f32", 1000));
    },
    fails: () => assertThrows(() => program.run([input]), DeviceError, lost),
  };
}

const doubled = noise(1000).map((x) => 2 * x);
const lost =
  "Cannot run a program on 2 threads: one of them has stopped, and what was computed is lost; call init again, with threads: 1 if it happens again";
const plainly = (start: () => NodeWorker) => start();

/** Resolves when a worker has ended. */
function exits(worker: NodeWorker): Promise<unknown> {
  return new Promise((resolve) => worker.on("exit", resolve));
}

Deno.test("a worker that is gone is an error of the next run, not a hang", () =>
  hiring(plainly, async (workers) => {
    const { run, fails, backend } = doubling({ patience: 100 });
    assertEquals(await run(), doubled);
    assertEquals(workers.length, 1);
    workers[0]!.terminate();
    fails();
    fails();
    backend.dispose();
  }));

Deno.test("a worker whose end is told is an error of the next run", () =>
  hiring(plainly, async (workers) => {
    const { run, fails, backend } = doubling({});
    assertEquals(await run(), doubled);
    const gone = exits(workers[0]!);
    workers[0]!.terminate();
    await gone;
    fails();
    backend.dispose();
  }));

Deno.test("what a worker cannot do is an error of the run", () =>
  hiring(plainly, () => {
    const { fails, backend } = doubling({}, 2 ** 28);
    fails();
    fails();
    backend.dispose();
  }));

Deno.test("where workers are refused, programs run on one thread", () =>
  hiring(() => {
    throw new Error("no more workers");
  }, async (workers) => {
    const { run, backend } = doubling({});
    for (let i = 0; i < 2; i++) assertEquals(await run(), doubled);
    assertEquals(workers, []);
    backend.dispose();
  }));

Deno.test("where a worker cannot open the BLAS, programs run on one thread", () =>
  hiring((start, orders) => {
    Object.assign(orders, { blas: "/nowhere/libblas.so" });
    return start();
  }, async (workers) => {
    const { run, backend } = doubling({});
    for (let i = 0; i < 2; i++) assertEquals(await run(), doubled);
    assertEquals(workers.length, 1);
    backend.dispose();
  }));

Deno.test("a thread that may not wait looks until the others have come", () =>
  hiring(plainly, async (workers) => {
    const { wait } = Atomics;
    Atomics.wait = () => {
      throw new TypeError("not here");
    };
    const { run, backend } = doubling({});
    try {
      // The workers start meanwhile.
      for (let i = 0; i < 50; i++) {
        assertEquals(await run(), doubled);
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
    } finally {
      Atomics.wait = wait;
    }
    assertEquals(workers.length, 1);
    backend.dispose();
  }));

Deno.test("backends that are disposed of end their workers", () =>
  hiring(plainly, async (workers) => {
    const ended: Promise<unknown>[] = [];
    for (let i = 0; i < 5; i++) {
      const { run, backend } = doubling({ threads: 3 });
      assertEquals(await run(), doubled);
      ended.push(...workers.slice(-2).map(exits));
      backend.dispose();
    }
    assertEquals(workers.length, 10);
    await Promise.all(ended);
  }));

Deno.test("workers start when programs have had enough to do, and not before", () =>
  hiring(plainly, async (workers) => {
    const { run, backend } = doubling({ eager: false });
    for (let i = 0; i < 10; i++) assertEquals(await run(), doubled);
    assertEquals(workers.length, 0);
    const runtime = createRuntime(createWasmBackend({ threads: 2 }));
    const product = () => {
      using a = random.normal(random.key(0), [512, 512]);
      using b = jit((x: Tensor) => x.matmul(x));
      b(a).dispose();
    };
    withRuntime(runtime, product);
    assertEquals(workers.length, 0);
    for (let i = 0; i < 50; i++) withRuntime(runtime, product);
    assertEquals(workers.length, 1);
    closeRuntime(runtime);
    backend.dispose();
  }));

Deno.test("threads need no permission and do not keep the process", async () => {
  const script = `
    import { createWasmBackend } from "./core/cpu/wasm.ts";
    import { createRuntime, setRuntime } from "./core/context.ts";
    import { ones } from "cotan";
    const backend = createWasmBackend({ threads: 2, eager: true });
    setRuntime(createRuntime(backend));
    console.log(backend.adapter, await ones([100, 100]).sum().item());
  `;
  const root = new URL("../../../", import.meta.url);
  const command = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--no-check", "--ext=ts", "-"],
    cwd: root,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  });
  const child = command.spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(script));
  await writer.close();
  const { code, stdout, stderr } = await child.output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  assertEquals(text(stderr), "");
  assertMatch(text(stdout), /^wasm: .*2 threads 10000\n$/);
  assertEquals(code, 0);
});
