import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { jit, random, scan, scope, type Tensor, tensor, zeros } from "cotan";
import {
  closeRuntime,
  createRuntime,
  type Runtime,
  setRuntime,
} from "../../../core/context.ts";
import { Heap } from "../../../core/cpu/memory.ts";
import { Packs, WORTH_KEEPING } from "../../../core/cpu/packs.ts";
import { ProgramCompiler } from "../../../core/cpu/program.ts";
import { createWasmBackend } from "../../../core/cpu/wasm.ts";
import type { Data } from "../../../core/dtype.ts";
import type { Place, Plan } from "../../../core/plan/kernel.ts";
import { check } from "../../support/runs.ts";
import { acc, noise, openWide, whole } from "./support.ts";

const MiB = 2 ** 20;

/** Runtimes that keep all packs: on one, two and three threads, and beyond 4 GiB. */
function openTeams(): Runtime[] {
  const narrow = [1, 2, 3].map((threads) =>
    createWasmBackend({ threads, eager: true })
  );
  return [...narrow, openWide(2)].map(createRuntime);
}

/** Runs a test with each of the runtimes. */
async function onEach(test: () => Promise<void>): Promise<void> {
  for (const runtime of openTeams()) {
    setRuntime(runtime);
    await test();
    closeRuntime(runtime);
  }
}

const normal = (seed: number, ...shape: number[]): Tensor =>
  random.normal(random.key(seed), shape);

async function takeData(x: Tensor): Promise<Data> {
  const data = await x.data();
  x.dispose();
  return data;
}

/** How a product reads its weight. */
const readings = {
  "as it is": (k: number, n: number) => ({
    shape: [k, n],
    read: (w: Tensor) => w,
  }),
  "transposed": (k: number, n: number) => ({
    shape: [n, k],
    read: (w: Tensor) => w.transpose(),
  }),
  "in part": (k: number, n: number) => ({
    shape: [k + 1, n + 3],
    read: (w: Tensor) => w.slice([[1, k + 1], [2, n + 2]]),
  }),
};

Deno.test("a product has the same bits before its weight is packed, while it is and after, on any number of threads", async () => {
  const teams = openTeams();
  const property = fc.asyncProperty(
    fc.constantFrom(5, 11, 16, 33, 61),
    fc.constantFrom(1, 5, 40, 128, 130, 300),
    fc.constantFrom(2, 7, 8, 9, 40, 515),
    fc.constantFrom(...Object.values(readings)),
    async (m, k, n, reading) => {
      const { shape, read } = reading(k, n);
      const results: unknown[] = [];
      for (const runtime of teams) {
        setRuntime(runtime);
        using f = jit((x, w) => x.matmul(read(w)).add(1));
        using g = jit((x, w) => x.matmul(read(w)).tanh());
        using x = normal(0, m, k), w = normal(1, ...shape);
        const others = await Promise.all([1, 2].map(() => takeData(g(x, w))));
        assertEquals(others[1], others[0]);
        const calls = [1, 2, 3, 4].map(() => f(x, w));
        results.push(...await Promise.all(calls.map(takeData)));
      }
      for (const result of results) assertEquals(result, results[0]);
    },
  );
  await check(property, 25, [
    [16, 300, 515, readings.transposed],
    [16, 300, 515, readings["in part"]],
  ]);
  teams.forEach(closeRuntime);
});

Deno.test("a weight that a loop reads again and again is packed as well", async () => {
  await onEach(async () => {
    using f = jit((h, w, xs) =>
      scan(
        (h, x) => {
          const carry = h.matmul(w).add(x).tanh();
          return { carry, y: carry.sum({ axis: 0 }) };
        },
        h,
        xs,
      ).ys
    );
    using h = normal(0, 16, 40), w = normal(1, 40, 40);
    using xs = normal(2, 5, 16, 40);
    const calls = await Promise.all(
      [1, 2, 3].map(() => takeData(f(h, w, xs))),
    );
    for (const result of calls) assertEquals(result, calls[0]);
  });
});

Deno.test("parts of a weight have packs of their own", async () => {
  await onEach(async () => {
    using sums = jit((x, w) => {
      const parts = [0, 20].map((at) => x.matmul(w.slice([[at, at + 20]])));
      return parts[0]!.sub(parts[1]!);
    });
    using x = normal(0, 16, 20), w = normal(1, 40, 30);
    const calls = [1, 2, 3].map(() => takeData(sums(x, w)));
    const [first, ...others] = await Promise.all(calls);
    for (const result of others) assertEquals(result, first);
  });
});

Deno.test("other weights are noticed, also where they take the place of the old ones in memory", async () => {
  await onEach(async () => {
    using product = jit((x, w) => x.matmul(w));
    using x = normal(0, 16, 40);
    const values = [1, 2, 3].map((seed) => noise(40 * 30, seed));
    const seen: unknown[] = [];
    for (const data of [...values, ...values]) {
      using w = tensor(data, { shape: [40, 30] });
      const calls = [1, 2, 3].map(() => product(x, w));
      const results = await Promise.all(calls.map(takeData));
      for (const result of results) assertEquals(result, results[0]);
      seen.push(results[0]);
    }
    assertEquals(seen.slice(3), seen.slice(0, 3));
    assert(seen[0] !== seen[1] && seen[1] !== seen[2]);
  });
});

Deno.test("weights that a step updates in place are read as they are", async () => {
  await onEach(async () => {
    using product = jit((x, w) => x.matmul(w));
    using step = jit(
      (w, x) => w.add(x.matmul(w).sum({ axis: 0 })),
      { donate: [0] },
    );
    using x = normal(0, 16, 40);
    let w = normal(1, 40, 30);
    for (let i = 0; i < 3; i++) {
      const calls = [1, 2, 3].map(() => product(x, w));
      const results = await Promise.all(calls.map(takeData));
      using copy = tensor(await w.data(), { shape: [40, 30] });
      const expected = await takeData(product(x, copy));
      for (const result of results) assertEquals(result, expected);
      w = step(w, x);
    }
    w.dispose();
  });
});

/** The plan of one product. */
function productPlan(m: number, k: number, n: number): Plan {
  const input = (index: number): Place => ({ kind: "input", index });
  return {
    inputs: 2,
    outputs: [{ kind: "new", size: m * n, dtype: "f32" }],
    freed: [],
    steps: [{
      kernel: {
        kind: "matmul",
        shape: [m, n],
        k,
        a: { buffer: 0, view: whole([m, k]), dtype: "f32" },
        b: { buffer: 1, view: whole([k, n]), dtype: "f32" },
        outputs: [{ buffer: 2, view: whole([m, n]), expr: acc() }],
      },
      buffers: [input(0), input(1), { kind: "output", index: 0 }],
      dtypes: ["f32", "f32", "f32"],
    }],
    pages: [],
    loops: [],
  };
}

Deno.test("donated weights have no packs, nor have those of many rows or few elements", () => {
  const compiler = new ProgramCompiler({
    bits: 32,
    relaxed: false,
    division: null,
    leastForBlas: Infinity,
    keeping: WORTH_KEEPING,
  });
  const packs = (m: number, k: number, n: number, isDonated = false) =>
    compiler.compile(productPlan(m, k, n), [false, isDonated]).packs.length;
  assertEquals(packs(32, 128, 128), 1);
  assertEquals(packs(32, 128, 128, true), 0);
  assertEquals(packs(33, 128, 128), 0);
  assertEquals(packs(32, 128, 127), 0);
});

Deno.test("a storage that is written to is packed anew", async () => {
  const [m, k, n] = [16, 24, 40];
  const plan = productPlan(m, k, n);
  for (const { backend } of openTeams()) {
    const graph = { inputs: [], outputs: [] };
    const program = backend.compile(graph, [false, false], () => plan);
    const x = backend.upload(Float32Array.from(noise(m * k)), "f32");
    const w = backend.upload(Float32Array.from(noise(k * n, 2)), "f32");
    const run = async () => {
      const [y] = program.run([x, w]);
      const data = await backend.download(y!, "f32", m * n);
      backend.free(y!);
      return data;
    };
    for (let i = 0; i < 3; i++) await run();
    backend.write(w, "f32", 0, new Float32Array(k * n));
    assertEquals(await run(), new Float32Array(m * n));
    backend.dispose();
  }
});

/** A program that multiplies by so many weights of 1 MiB, and those. */
function manyWeights(count: number): { run: () => void; weights: Tensor[] } {
  const weights = Array.from({ length: count }, (_, i) => normal(i, 512, 512));
  const x = normal(count, 16, 512);
  const products = jit((x: Tensor, ...weights: Tensor[]) =>
    weights.map((w) => x.matmul(w).sum()).reduce((a, b) => a.add(b))
  );
  return { run: () => products(x, ...weights).dispose(), weights };
}

Deno.test("packs are kept from the second call on, within 16 MiB, are no tensors, and go with their weights", () => {
  const backend = createWasmBackend({ threads: 1 });
  const runtime = createRuntime(backend);
  setRuntime(runtime);
  const { run, weights } = manyWeights(32);
  run();
  const first = backend.memory();
  for (let i = 0; i < 2; i++) run();
  const third = backend.memory();
  assertEquals(third.liveBytes, first.liveBytes);
  const grown = third.reservedBytes - first.reservedBytes;
  // The memory grows by a quarter more than is asked for.
  assert(grown > 9 * MiB && grown < 27 * MiB, `${grown / MiB} MiB`);
  for (let i = 3; i < 200; i++) run();
  assertEquals(backend.memory(), third);
  weights.forEach((w) => w.dispose());
  scope(() => {
    for (let i = 0; i < 42; i++) zeros([512, 512]);
  });
  assertEquals(backend.memory().reservedBytes, third.reservedBytes);
  closeRuntime(runtime);
});

Deno.test("packs give way to tensors where memory is short", async () => {
  const backend = createWasmBackend({ threads: 1, bytes: 16 * MiB });
  const runtime = createRuntime(backend);
  setRuntime(runtime);
  using product = jit((x, w) => x.matmul(w));
  using x = normal(0, 16, 1024);
  using w = tensor(noise(MiB), { shape: [1024, 1024] });
  const calls = () => Promise.all([1, 2, 3].map(() => takeData(product(x, w))));
  const before = await calls();
  // With the weight and its pack only 8 MiB are left.
  using large = zeros([10 * MiB / 4]);
  assertEquals(large.shape, [10 * MiB / 4]);
  for (const result of await calls()) assertEquals(result, before[0]);
  closeRuntime(runtime);
});

Deno.test("whatever is read, freed, overwritten and dropped, packs lie apart and leave nothing behind", async () => {
  const command = fc.record({
    what: fc.constantFrom("run", "run", "run", "run", "forget", "leave"),
    who: fc.nat(2),
    storages: fc.array(fc.nat(3), { minLength: 1, maxLength: 3 }),
    bytes: fc.constantFrom(64, 100, 4000),
    isCut: fc.boolean(),
  });
  const property = fc.property(
    fc.array(command, { maxLength: 60 }),
    (commands) => {
      const heap = new Heap(64 * MiB);
      const packs = new Packs(heap);
      const programs = [{}, {}, {}];
      const storages = Array.from({ length: 4 }, () => ({ reads: null }));
      /** What has been read of storages, and how often, by its key; and where packs are. */
      const reads = new Map<object, Map<string, number>>();
      const stateAt = (address: number) =>
        new Uint32Array(heap.memory.buffer, address, 1)[0];
      for (const { what, who, storages: picked, bytes, isCut } of commands) {
        if (what === "leave") {
          packs.leave(programs[who]!);
        } else if (what === "forget") {
          const storage = storages[picked[0]!]!;
          packs.forget(storage);
          reads.delete(storage);
        } else {
          const numbers = [...new Set(picked)];
          const wanted = numbers.map((input) => {
            return { input, key: `key ${bytes}`, bytes };
          });
          const found = packs.find(programs[who]!, wanted, storages);
          const spans = found.filter((address) => address > 0).sort((a, b) =>
            a - b
          );
          spans.forEach((address, i) =>
            assert(i === 0 || spans[i - 1]! + bytes <= address)
          );
          found.forEach((address, i) => {
            const storage = storages[numbers[i]!]!;
            const known = reads.get(storage) ?? new Map<string, number>();
            reads.set(storage, known);
            const times = known.get(`key ${bytes}`) ?? 0;
            known.set(`key ${bytes}`, times + 1);
            assertEquals(address > 0, times > 0);
            if (address > 0) assert([1, 2].includes(stateAt(address)!));
          });
          // A run that fails has packed nothing that counts.
          const states = spans.map(stateAt);
          if (!isCut) packs.complete();
          assertEquals(spans.map(stateAt), isCut ? states : spans.map(() => 2));
        }
      }
      for (const storage of storages) packs.forget(storage);
      assertEquals(heap.usedBytes, 0);
    },
  );
  await check(property, 100);
});

Deno.test("a pack goes with the last program that has read it", () => {
  const heap = new Heap(64 * MiB);
  const packs = new Packs(heap);
  const [one, other, storage] = [{}, {}, { reads: null }];
  const wanted = [{ input: 0, key: "key", bytes: 1000 }];
  assertEquals(packs.find(one, wanted, [storage]), [0]);
  const found = packs.find(one, wanted, [storage]);
  packs.complete();
  assertEquals(packs.find(other, wanted, [storage]), found);
  assert(heap.usedBytes > 0);
  packs.leave(one);
  assertEquals(packs.find(other, wanted, [storage]), found);
  packs.leave(other);
  assertEquals(heap.usedBytes, 0);
});
