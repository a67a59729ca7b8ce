import { assert, assertEquals, assertThrows } from "@std/assert";
import { createWasmBackend } from "../../../core/cpu/wasm.ts";
import { DeviceError } from "../../../core/errors.ts";
import type { DType } from "../../../core/dtype.ts";
import type {
  Kernel,
  Place,
  Plan,
  SimpleKernel,
  Step,
} from "../../../core/plan/kernel.ts";
import {
  acc,
  assertClose,
  backends,
  call,
  load,
  noise,
  runKernel,
  simulate,
  whole,
} from "./support.ts";

const graph = { inputs: [], outputs: [] };
const golden = new URL(
  "../../../../shared/golden/rng/threefry2x32.json",
  import.meta.url,
);

/** `to = from + from` over `size` floats. */
function double(size: number, from: Place, to: Place): Step {
  const view = whole([size]);
  const x = load(0, view);
  const outputs = [{ buffer: 1, view, expr: call("add", [x, x]) }];
  const kernel: Kernel = { kind: "map", shape: [size], outputs };
  return { kernel, buffers: [from, to], dtypes: ["f32", "f32"] };
}

const input = (index: number): Place => ({ kind: "input", index });
const output = (index: number): Place => ({ kind: "output", index });

for (const [name, backend] of Object.entries(backends)) {
  Deno.test(`data comes back as it went in, ${name}`, async () => {
    const { liveBytes } = backend.memory();
    const arrays: [
      DType,
      Float32Array | Int32Array | Uint32Array | Uint8Array,
    ][] = [
      ["f32", Float32Array.of(1.5, NaN, -0, Infinity)],
      ["i32", Int32Array.of(-1, 2 ** 31 - 1)],
      ["u32", Uint32Array.of(2 ** 32 - 1, 0, 7)],
      ["bool", Uint8Array.of(1, 0, 1, 1, 0)],
      ["f32", new Float32Array(0)],
    ];
    for (const [dtype, data] of arrays) {
      const storage = backend.upload(data, dtype);
      assertEquals(storage.bytes, 4 * data.length);
      assertEquals(backend.memory().liveBytes, liveBytes + storage.bytes);
      assertEquals(await backend.download(storage, dtype, data.length), data);
      backend.free(storage);
    }
    assertEquals(backend.memory().liveBytes, liveBytes);
  });

  Deno.test(`steps in a loop run again and again, ${name}`, async () => {
    const arena = (offset: number): Place => {
      return { kind: "arena", page: 0, offset, bytes: 64 };
    };
    const plan: Plan = {
      inputs: 1,
      outputs: [{ kind: "new", size: 2, dtype: "f32" }],
      freed: [],
      steps: [
        double(2, input(0), arena(0)),
        double(2, arena(0), arena(64)),
        double(2, arena(64), arena(0)),
        double(2, arena(0), output(0)),
      ],
      pages: [128],
      loops: [{ first: 1, end: 3, trips: 3 }],
    };
    const program = backend.compile(graph, [false], () => plan);
    const x = backend.upload(Float32Array.of(1, 2), "f32");
    const [y] = program.run([x]);
    assertEquals(
      await backend.download(y!, "f32", 2),
      Float32Array.of(256, 512),
    );
    backend.free(y!);
    backend.free(x);
    program.dispose();
  });

  Deno.test(`every part of a group runs, each on its own buffers, ${name}`, async () => {
    const view = whole([3, 4]), row = whole([3]);
    const sums: SimpleKernel = {
      kind: "reduce",
      shape: [3],
      over: [4],
      passes: [{
        reductions: [{ combine: "sum", body: load(3, view) }],
        outputs: [{ buffer: 1, view, expr: call("neg", [load(3, view)]) }],
      }],
      outputs: [{ buffer: 4, view: row, expr: acc() }],
    };
    const update = (p: number, m: number): SimpleKernel => {
      const [x, y] = [load(p, view), load(m, view)];
      const next = call("add", [y, x]);
      return {
        kind: "map",
        shape: [3, 4],
        outputs: [
          { buffer: m, view, expr: next },
          { buffer: p, view, expr: call("sub", [x, next]) },
        ],
      };
    };
    const product: SimpleKernel = {
      kind: "matmul",
      shape: [3, 3],
      k: 4,
      a: { buffer: 3, view, dtype: "f32" },
      b: { buffer: 3, view: { offset: 0, strides: [1, 4] }, dtype: "f32" },
      outputs: [{ buffer: 7, view: whole([3, 3]), expr: acc() }],
    };
    const kernel: Kernel = {
      kind: "group",
      parts: [update(2, 0), sums, product, update(6, 5)],
    };
    const buffers = [12, 12, 12, 12, 3, 12, 12, 9].map((size, i) => ({
      dtype: "f32" as const,
      data: noise(size, i + 1),
    }));
    const actual = await runKernel(backend, kernel, buffers);
    const expected = simulate(kernel, buffers);
    actual.forEach((x, i) => assertClose(x, expected[i]!, 1e-6));
  });

  Deno.test(`steps run in order over the arena, ${name}`, async () => {
    const arena = (offset: number): Place => {
      return { kind: "arena", page: 1, offset, bytes: 64 };
    };
    const plan: Plan = {
      inputs: 1,
      outputs: [{ kind: "new", size: 5, dtype: "f32" }],
      freed: [],
      steps: [
        double(5, input(0), arena(64)),
        double(5, arena(64), arena(0)),
        double(5, arena(0), output(0)),
      ],
      pages: [64, 128],
      loops: [],
    };
    const program = backend.compile(graph, [false], () => plan);
    const x = backend.upload(Float32Array.of(1, 2, 3, 4, 5), "f32");
    for (let i = 0; i < 2; i++) {
      const [y] = program.run([x]);
      const data = await backend.download(y!, "f32", 5);
      assertEquals(data, Float32Array.of(8, 16, 24, 32, 40));
      backend.free(y!);
    }
    backend.free(x);
    program.dispose();
  });

  Deno.test(`a step over donated state allocates nothing and frees what is left, ${name}`, async () => {
    const plan: Plan = {
      inputs: 2,
      outputs: [{ kind: "input", index: 0 }, {
        kind: "new",
        size: 100,
        dtype: "f32",
      }],
      freed: [1],
      steps: [
        double(100, input(1), output(1)),
        double(100, input(0), input(0)),
      ],
      pages: [],
      loops: [],
    };
    // A place that is read and written is one buffer of the kernel.
    const view = whole([100]);
    const x = load(0, view);
    const inPlace: Step = {
      kernel: {
        kind: "map",
        shape: [100],
        outputs: [{ buffer: 0, view, expr: call("add", [x, x]) }],
      },
      buffers: [input(0)],
      dtypes: ["f32"],
    };
    const program = backend.compile(graph, [true, true], () => ({
      ...plan,
      steps: [plan.steps[0]!, inPlace],
    }));
    let state = backend.upload(new Float32Array(100).fill(2 ** -10), "f32");
    let batch = backend.upload(new Float32Array(100).fill(1), "f32");
    const before = backend.memory();
    for (let i = 0; i < 20; i++) {
      [state, batch] = program.run([state, batch]) as [
        typeof state,
        typeof batch,
      ];
    }
    assertEquals(backend.memory(), before);
    const [first] = await backend.download(state, "f32", 100);
    assertEquals(first, 2 ** 10);
    backend.free(state);
    backend.free(batch);
    program.dispose();
  });

  Deno.test(`threefry gives the published words, ${name}`, {
    ignore: !isReadable(golden),
  }, async () => {
    const { vectors } = JSON.parse(Deno.readTextFileSync(golden)) as {
      vectors: {
        rounds: number;
        ctr: string[];
        key: string[];
        out: string[];
      }[];
    };
    const wanted = vectors.filter(({ rounds, ctr }) =>
      rounds === 20 && parseInt(ctr[0]!, 16) < 2 ** 31
    );
    assert(wanted.length > 0);
    for (const { ctr, key, out } of wanted) {
      const [first, stream] = ctr.map((hex) => parseInt(hex, 16));
      const one = (buffer: number, offset: number) =>
        load(buffer, { offset, strides: [0] }, "u32");
      const i = {
        kind: "index",
        view: { offset: 2 * first!, strides: [1] },
        dtype: "u32",
      } as const;
      const [, , words] = await runKernel(backend, {
        kind: "map",
        shape: [2],
        outputs: [{
          buffer: 2,
          view: whole([2]),
          expr: call("threefry", [one(0, 0), one(0, 1), i, one(1, 0)]),
        }],
      }, [
        { dtype: "u32", data: key.map((hex) => parseInt(hex, 16)) },
        { dtype: "u32", data: [stream!] },
        { dtype: "u32", data: [0, 0] },
      ]);
      assertEquals(words!.map((w) => w.toString(16).padStart(8, "0")), out);
    }
  });
}

Deno.test("the adapter tells whether relaxed SIMD is used, and how many threads", () => {
  const adapterOf = (relaxed: boolean, threads: number) =>
    createWasmBackend({ relaxed, threads }).adapter;
  assertEquals(adapterOf(true, 3), "wasm: simd, relaxed simd, 3 threads");
  assertEquals(adapterOf(false, 1), "wasm: simd, 1 thread");
});

Deno.test("a program that needs too much memory throws, and earlier programs still run", async () => {
  const backend = createWasmBackend({ bytes: 2 ** 20 });
  const planOf = (bytes: number): Plan => ({
    inputs: 1,
    outputs: [{ kind: "new", size: 4, dtype: "f32" }],
    freed: [],
    steps: [
      double(4, input(0), { kind: "arena", page: 0, offset: 0, bytes: 64 }),
      double(4, { kind: "arena", page: 0, offset: 0, bytes: 64 }, output(0)),
    ],
    pages: [bytes],
    loops: [],
  });
  const program = backend.compile(graph, [false], () => planOf(1000));
  assertThrows(
    () => backend.compile(graph, [false], () => planOf(2 ** 21)),
    DeviceError,
    "Cannot allocate the arena of a program: it takes 2 MiB, and 64 bytes of 1 MiB are in use",
  );
  const x = backend.upload(Float32Array.from(noise(4)), "f32");
  const [y] = program.run([x]);
  const data = await backend.download(y!, "f32", 4);
  assertEquals(Array.from(data), noise(4).map((v) => 4 * v));
  const held = backend.memory().liveBytes;
  const large: Plan = {
    ...planOf(64),
    outputs: [{ kind: "new", size: 4, dtype: "f32" }, {
      kind: "new",
      size: 2 ** 20,
      dtype: "f32",
    }],
  };
  const greedy = backend.compile(graph, [false], () => large);
  assertThrows(
    () => greedy.run([x]),
    DeviceError,
    "Cannot allocate a result: it takes 4 MiB, and ",
  );
  assertEquals(backend.memory().liveBytes, held);
});

Deno.test("a storage that was freed, or a backend that was disposed of, is refused", () => {
  const backend = createWasmBackend();
  const x = backend.upload(new Float32Array(4), "f32");
  const y = backend.upload(new Float32Array(4), "f32");
  backend.free(x);
  assertThrows(() => backend.free(x), Error, "a storage is freed");
  backend.dispose();
  backend.free(y);
  assertEquals(backend.memory(), { liveBytes: 0, reservedBytes: 0 });
  assertThrows(
    () => backend.upload(new Float32Array(4), "f32"),
    Error,
    "the backend is disposed of",
  );
});

/** Bytes of the module that a plan of steps over an arena becomes. */
function moduleBytes(steps: readonly Step[]): number {
  const { Module } = WebAssembly;
  let size = 0;
  try {
    WebAssembly.Module = class extends Module {
      constructor(bytes: BufferSource) {
        super(bytes);
        size = bytes.byteLength;
      }
    } as typeof Module;
    createWasmBackend().compile(graph, [false], () => ({
      inputs: 1,
      outputs: [],
      freed: [],
      steps,
      pages: [2 ** 16],
      loops: [],
    }));
  } finally {
    WebAssembly.Module = Module;
  }
  return size;
}

Deno.test("equal kernels become one function, and so do equal parts of groups", () => {
  const slot = (i: number): Place => {
    return { kind: "arena", page: 0, offset: 4096 * i, bytes: 4096 };
  };
  const steps = [0, 1, 2].map((i) => double(999, input(0), slot(i)));
  const [one, two, three] = [1, 2, 3].map((count) =>
    moduleBytes(steps.slice(0, count))
  ) as [number, number, number];
  assert(three - two < 30 && two - one < 30, `${[one, two, three]} bytes`);
  const view = whole([999]), x = load(0, view);
  const parts = [1, 2, 3].map((buffer): SimpleKernel => {
    const outputs = [{ buffer, view, expr: call("add", [x, x]) }];
    return { kind: "map", shape: [999], outputs };
  });
  const group: Step = {
    kernel: { kind: "group", parts },
    buffers: [input(0), slot(0), slot(1), slot(2)],
    dtypes: ["f32", "f32", "f32", "f32"],
  };
  assertEquals(moduleBytes([group]), three);
});

function isReadable(path: URL): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}
