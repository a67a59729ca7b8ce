import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  jit,
  ones,
  random,
  scan,
  scope,
  type Tensor,
  tensor,
  tree,
} from "cotan";
import {
  closeRuntime,
  createRuntime,
  type Runtime,
  withRuntime,
} from "../../../core/context.ts";
import { createWasmBackend, type WasmOptions } from "../../../core/cpu/wasm.ts";
import { DeviceError } from "../../../core/errors.ts";
import type { Plan } from "../../../core/plan/kernel.ts";
import { buildWithGradient, programs } from "../../support/graphs.ts";
import { applyOp, opNames, upload } from "../../support/primitives.ts";
import { check } from "../../support/runs.ts";
import { type Sample, samples } from "../../support/samples.ts";
import { plainAdamw, trainingStep } from "../../support/workloads.ts";
import { load, noise, whole } from "./support.ts";

/** Runtimes on one thread and on several, with all work divided. */
function openTeams(...counts: number[]): Runtime[] {
  return counts.map((threads) =>
    createRuntime(createWasmBackend({ threads, eager: true }))
  );
}

/** The bits of the results of a function on a runtime; what it makes is freed. */
async function bitsOn(
  runtime: Runtime,
  f: () => readonly Tensor[],
): Promise<Uint8Array[]> {
  const results = withRuntime(runtime, () => scope(f));
  const data = await Promise.all(results.map((x) => x.data()));
  for (const x of new Set(results)) x.dispose();
  return data.map(({ buffer, byteOffset, byteLength }) =>
    new Uint8Array(buffer, byteOffset, byteLength)
  );
}

/** Asserts that a function gives the same bits on the first runtime and on the others. */
async function assertSameBits(
  [one, ...others]: readonly Runtime[],
  f: () => readonly Tensor[],
): Promise<void> {
  const expected = await bitsOn(one!, f);
  for (const team of others) assertEquals(await bitsOn(team, f), expected);
}

Deno.test("every primitive gives the same bits on any number of threads", async (t) => {
  const teams = openTeams(1, 2, 3);
  for (const op of opNames) {
    const arbitrary: fc.Arbitrary<Sample> = samples[op];
    const property = fc.asyncProperty(
      arbitrary,
      ({ inputs, params }) =>
        assertSameBits(teams, () => [applyOp(op, inputs.map(upload), params)]),
    );
    await t.step(op, () => check(property, 8));
  }
  teams.forEach(closeRuntime);
});

Deno.test("random programs give the same bits on any number of threads", async () => {
  const teams = openTeams(1, 2, 5);
  const property = fc.asyncProperty(
    programs,
    (program) =>
      assertSameBits(teams, () => {
        using f = jit((...xs: Tensor[]) => buildWithGradient(program, xs));
        return f(...program.inputs.map(upload));
      }),
  );
  await check(property, 30);
  teams.forEach(closeRuntime);
});

Deno.test("large kernels of every kind give the same bits on any number of threads", async (t) => {
  const teams = openTeams(1, 2, 3, 5);
  const normal = (seed: number, ...shape: number[]) =>
    random.normal(random.key(seed), shape);
  const ids = (count: number, below: number) =>
    tensor(Int32Array.from({ length: count }, (_, i) => i * 7919 % below));
  const cases: Record<string, () => Tensor | Tensor[]> = {
    "a product by rows": () => normal(0, 200, 130).matmul(normal(1, 130, 70)),
    "a product by columns": () => normal(0, 7, 300).matmul(normal(1, 300, 90)),
    "a product of a batch": () =>
      normal(0, 6, 20, 30).matmul(normal(1, 6, 30, 10)),
    "a product stored by columns, with what follows": () =>
      normal(0, 90, 40).matmul(normal(1, 40, 50)).add(1).transpose()
        .tanh().add(normal(2, 50, 90)),
    "a product that accumulates beside its halves": () =>
      normal(0, 6, 150, 90).matmul(normal(1, 6, 90, 100)).cast("f16"),
    "one row times a matrix": () =>
      normal(0, 1, 300).matmul(normal(1, 300, 90)),
    "sums of rows": () => normal(0, 37, 300).sum({ axis: 1 }),
    "sums of columns": () => normal(0, 3000, 37).sum({ axis: 0 }),
    "a sum of all": () => normal(0, 300, 337).sum(),
    "several sums of all": () =>
      [0, 1, 2, 3].map((i) => normal(i, 300, 337 + i).square().sum()),
    "the largest of all": () => normal(0, 300, 337).max(),
    "a loop": () => {
      const [h, w] = [normal(0, 90, 40).mul(2), normal(1, 40, 40)];
      const step = (h: Tensor, x: Tensor) => {
        const carry = h.matmul(w).tanh().add(x.flip([0]));
        return { carry, y: carry.sum({ axis: 0 }) };
      };
      const { carry, ys } = scan(step, h, normal(2, 9, 90, 40));
      return [carry.softmax(), ys];
    },
    "softmax": () => normal(0, 37, 301).softmax(),
    "a transpose": () => normal(0, 128, 192).transpose().add(0.5),
    "a table's gradient": () =>
      normal(0, 50, 40).scatterAdd(
        ids(600 * 40, 50).reshape([600, 40]),
        normal(1, 600, 40),
        { axis: 0 },
      ),
  };
  for (const [name, f] of Object.entries(cases)) {
    await t.step(name, () =>
      assertSameBits(teams, () => {
        using g = jit(f);
        return [g, g, g, g, f].flatMap((run) => run());
      }));
  }
  teams.forEach(closeRuntime);
});

Deno.test("steps of training give the same bits on one thread and on several", async () => {
  const sizes = { C: 32, H: 4, T: 16, V: 50, layers: 2 };
  await assertSameBits(openTeams(1, 2, 3), () => {
    const { f, args, donate } = trainingStep(sizes, plainAdamw);
    using step = jit(f, { donate });
    let [params, state, x, y] = args;
    let value: Tensor | null = null;
    for (let i = 0; i < 3; i++) {
      ({ params, state, value } = step(params, state, x, y));
    }
    return [value!, ...tree.leaves({ params, state }).map(({ leaf }) => leaf)];
  });
});

Deno.test("memory that grows after the workers have started is theirs as well", async () => {
  const [one, two] = openTeams(1, 2) as [Runtime, Runtime];
  const sums = () => [3, 7].map((x) => ones([x, 100]).mul(x).sum());
  await assertSameBits([one, two], sums);
  const before = two.backend.memory().reservedBytes;
  const large = () => [ones([1000, 3000]).mul(2), ...sums()];
  await assertSameBits([one, two], large);
  assert(two.backend.memory().reservedBytes > before + 1e7);
  [one, two].forEach(closeRuntime);
});

/** Node's workers, of which a test may see and change what is started. */
type Workers = typeof import("node:worker_threads");
type NodeWorker = InstanceType<Workers["Worker"]>;
type Process = { getBuiltinModule(name: string): Workers };

/** Calls `f` while workers are started by `hire` instead; gives those that were. */
async function hiring(
  hire: (start: () => NodeWorker) => NodeWorker,
  f: (workers: NodeWorker[]) => Promise<void> | void,
): Promise<void> {
  const { process } = globalThis as unknown as { process: Process };
  const { getBuiltinModule } = process;
  const started: NodeWorker[] = [];
  const real = getBuiltinModule("node:worker_threads");
  process.getBuiltinModule = () => ({
    ...real,
    Worker: function (code: string, options: object) {
      const worker = hire(() => new real.Worker(code, options));
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
