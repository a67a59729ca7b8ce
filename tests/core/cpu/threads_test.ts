import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  grad,
  jit,
  ones,
  random,
  scan,
  scope,
  scoresLogSumExp,
  type Tensor,
  tensor,
  tree,
  unpack,
} from "cotan";
import {
  closeRuntime,
  createRuntime,
  type Runtime,
  withRuntime,
} from "../../../core/context.ts";
import { createWasmBackend } from "../../../core/cpu/wasm.ts";
import { fusedAttention } from "../../../core/math/attention.ts";
import type { Expr, Place, Plan, Step } from "../../../core/plan/kernel.ts";
import { buildWithGradient, programs } from "../../support/graphs.ts";
import { applyOp, opNames, upload } from "../../support/primitives.ts";
import { check } from "../../support/runs.ts";
import { type Sample, samples } from "../../support/samples.ts";
import { plainAdamw, trainingStep } from "../../support/workloads.ts";
import { load, noise, openWide, whole } from "./support.ts";

/** Runtimes on one thread and on several, with all work divided, and on one and two beyond 4 GiB. */
function openTeams(...counts: number[]): Runtime[] {
  const narrow = counts.map((threads) =>
    createWasmBackend({ threads, eager: true })
  );
  return [...narrow, openWide(1), openWide(2)].map(createRuntime);
}

/** The bits of the results of a function on a runtime; what it makes is freed. */
async function bitsOn(
  runtime: Runtime,
  f: () => readonly Tensor[],
): Promise<Uint8Array[]> {
  const results = withRuntime(runtime, () => scope(f));
  const data = await Promise.all(results.map((x) => x.data()));
  for (const x of new Set(results)) x.dispose();
  return data.map(({ buffer, byteOffset, byteLength }) => {
    // What is handed out is a copy: many functions of the platform take no memory that is shared.
    assert(buffer instanceof ArrayBuffer);
    return new Uint8Array(buffer, byteOffset, byteLength);
  });
}

/** Asserts that a function gives the same bits on the first runtime and on the others. */
async function assertSameBits(
  [one, ...others]: readonly Runtime[],
  f: () => readonly Tensor[],
): Promise<void> {
  const expected = await bitsOn(one!, f);
  for (const team of others) assertEquals(await bitsOn(team, f), expected);
}

Deno.test("every primitive gives the same bits on any number of threads and addresses of any length", async (t) => {
  const teams = openTeams(1, 2, 3);
  for (const op of opNames) {
    const arbitrary: fc.Arbitrary<Sample> = samples[op];
    const property = fc.asyncProperty(
      arbitrary,
      ({ inputs, params }) =>
        assertSameBits(teams, () => [applyOp(op, inputs.map(upload), params)]),
    );
    await t.step(op, () => check(property, 8, [], 2_000));
  }
  teams.forEach(closeRuntime);
});

Deno.test("random programs give the same bits on any number of threads and addresses of any length", async () => {
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

Deno.test("large kernels of every kind give the same bits on any number of threads and addresses of any length", async (t) => {
  const teams = openTeams(1, 2, 3, 5);
  const normal = (seed: number, ...shape: number[]) =>
    random.normal(random.key(seed), shape);
  const ids = (count: number, below: number) =>
    tensor(Int32Array.from({ length: count }, (_, i) => i * 7919 % below));
  const cases: Record<string, () => Tensor | Tensor[]> = {
    "a product by rows": () => normal(0, 200, 130).matmul(normal(1, 130, 70)),
    "a product by columns": () => normal(0, 7, 300).matmul(normal(1, 300, 90)),
    "a product of few rows with a transposed matrix": () =>
      normal(0, 7, 300).matmul(normal(1, 90, 300).transpose()).tanh(),
    "a product with an operand too large to be packed whole": () =>
      normal(0, 70, 300).matmul(normal(1, 300, 550)),
    "a product of a batch": () =>
      normal(0, 6, 20, 30).matmul(normal(1, 6, 30, 10)),
    "a product stored by columns, with what follows": () =>
      normal(0, 90, 40).matmul(normal(1, 40, 50)).add(1).transpose()
        .tanh().add(normal(2, 50, 90)),
    "a product that accumulates beside its halves": () =>
      normal(0, 6, 150, 90).matmul(normal(1, 6, 90, 100)).cast("f16"),
    "products with packed matrices": () => {
      const words = random.bits(random.key(0), [200, 25]);
      const levels = Array.from({ length: 16 }, (_, i) => i / 8 - 1);
      const small = unpack(words).mul(normal(1, 200, 1));
      const smaller = unpack(words, levels).reshape([200, 2, 100])
        .mul(normal(2, 200, 2, 1)).reshape([200, 200]);
      return [
        normal(3, 90, 200).matmul(small),
        normal(4, 70, 100).matmul(small.transpose()),
        normal(5, 3, 200).matmul(smaller),
        normal(6, 1, 200).matmul(smaller.transpose()),
        smaller.matmul(normal(7, 200, 37)),
      ];
    },
    "a row times packed matrices": () => {
      const words = random.bits(random.key(0), [600, 16]);
      const bytes = unpack(words).sub(128).mul(normal(1, 600, 1));
      const levels = Array.from({ length: 16 }, (_, i) => i / 8 - 1);
      const fours = unpack(words, levels).reshape([600, 2, 64])
        .mul(normal(2, 600, 2, 1)).reshape([600, 128]);
      return [
        normal(3, 1, 600).matmul(bytes),
        normal(4, 2, 64).matmul(bytes.transpose()),
        normal(5, 1, 128).matmul(fours.transpose()),
      ];
    },
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
    "gradients of attention": () => {
      const settings = { causal: true, window: 37, position: 0 };
      const mask = normal(3, 2, 150).lt(1);
      const loss = (p: { q: Tensor; k: Tensor; v: Tensor }) => {
        const args = [p.q, p.k, p.v, mask];
        const options = { ...settings, scale: 0.25, masked: true };
        return fusedAttention(options, args).out.square().sum();
      };
      const { q, k, v } = grad(loss)({
        q: normal(0, 2, 150, 4, 17),
        k: normal(1, 2, 150, 2, 17),
        v: normal(2, 2, 150, 2, 17),
      });
      return [q, k, v];
    },
    "gradients of the scores of a head": () => {
      const loss = (p: { x: Tensor; table: Tensor }) =>
        scoresLogSumExp(p.x, p.table).square().sum();
      const x = normal(0, 150, 33), table = normal(1, 301, 33);
      const slopes = grad(loss)({ x, table });
      return [slopes.x, slopes.table, loss({ x, table: table.cast("bf16") })];
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

Deno.test("threads wait for one another before a loop, in it and after it", async () => {
  const size = 4000, view = whole([size]);
  const x = load(0, { offset: size - 1, strides: [-1] });
  const expr: Expr = { kind: "call", op: "add", args: [x, x], dtype: "f32" };
  // Twice the elements in reverse: each thread reads what the other has stored.
  const turn = (from: Place, to: Place): Step => ({
    kernel: {
      kind: "map",
      shape: [size],
      outputs: [{ buffer: 1, view, expr }],
    },
    buffers: [from, to],
    dtypes: ["f32", "f32"],
  });
  const slot = (i: number): Place => {
    return { kind: "arena", page: 0, offset: 4 * size * i, bytes: 4 * size };
  };
  const plan: Plan = {
    inputs: 1,
    outputs: [{ kind: "new", size, dtype: "f32" }],
    freed: [],
    steps: [
      turn({ kind: "input", index: 0 }, slot(0)),
      turn(slot(0), slot(1)),
      turn(slot(1), slot(0)),
      turn(slot(0), { kind: "output", index: 0 }),
    ],
    pages: [8 * size],
    loops: [{ first: 1, end: 3, trips: 3 }],
  };
  const backend = createWasmBackend({ threads: 2, eager: true });
  const graph = { inputs: [], outputs: [] };
  const program = backend.compile(graph, [false], () => plan);
  const data = Float32Array.from(noise(size));
  const input = backend.upload(data, "f32");
  for (let i = 0; i < 20; i++) {
    const [out] = program.run([input]);
    assertEquals(
      await backend.download(out!, "f32", size),
      data.map((x) => 256 * x),
    );
    backend.free(out!);
  }
  backend.dispose();
});

Deno.test("steps of training give the same bits on any number of threads and addresses of any length", async () => {
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
  const teams = openTeams(1, 2);
  const reserved = () =>
    teams.map(({ backend }) => backend.memory().reservedBytes);
  const sums = () => [3, 7].map((x) => ones([x, 100]).mul(x).sum());
  await assertSameBits(teams, sums);
  const before = reserved();
  const large = () => [ones([1000, 3000]).mul(2), ...sums()];
  await assertSameBits(teams, large);
  reserved().forEach((bytes, i) => assert(bytes > before[i]! + 1e7));
  teams.forEach(closeRuntime);
});
