/**
 * Tensors longer than a binding: bindings of a few hundred bytes give what long ones give.
 *
 * @module
 */

import fc from "fast-check";
import {
  DeviceError,
  iota,
  jit,
  random,
  scope,
  type Tensor,
  tree,
  valueAndGradAux,
} from "cotan";
import { gpt2, type GPT2Params, type Norm } from "cotan/nn";
import {
  createRuntime,
  type Runtime,
  withRuntime,
} from "../../core/context.ts";
import { narrow } from "../../core/half.ts";
import type { Expr } from "../../core/plan/kernel.ts";
import { sizeOf, stridesOf } from "../../core/shape.ts";
import { assertClose } from "../support/allclose.ts";
import { buildWithGradient, programs } from "../support/graphs.ts";
import { applyOp, opNames, upload } from "../support/primitives.ts";
import { check } from "../support/runs.ts";
import { samples } from "../support/samples.ts";
import { gradients } from "../support/workloads.ts";
import { ignore, type Longest, openBackend, scheduleNames } from "./adapter.ts";
import { groups, passes } from "./pass_samples.ts";
import {
  acc,
  call,
  checkKernel,
  load,
  reduction,
  tolerance,
  wave,
} from "./run.ts";
import {
  gathers,
  halves,
  maps,
  output,
  products,
  reductions,
  type Sample,
  scatters,
} from "./samples.ts";

/** Extents that are whole vectors, and some that are not. */
const four = fc.constantFrom(4, 8, 16, 5, 7);

/** Sums of products of several tensors, of which a row is longer than all bindings. */
const sums: fc.Arbitrary<Sample> = fc.record({
  rows: fc.integer({ min: 1, max: 3 }),
  over: fc.tuple(
    fc.integer({ min: 1, max: 45 }),
    fc.integer({ min: 1, max: 45 }),
  ),
  flipped: fc.array(fc.boolean(), { minLength: 5, maxLength: 5 }),
}).map(({ rows, over: [m, n], flipped }): Sample => {
  const factors = flipped.map((flip, buffer) =>
    load(buffer, [m * n, ...flip ? [1, m] : [n, 1]])
  );
  const body = factors.reduce((a, b) => call("mul", [a, b]));
  const outputs = [output(5, [rows], acc)];
  return [
    reduction([rows], [m, n], "sum", body, outputs),
    [
      ...flipped.map((_, i) => wave(rows * m * n, i + 1)),
      new Float32Array(rows),
    ],
  ];
});

/** Halves that are added in place to what lies in another order, and rows of them that are picked. */
const packed: fc.Arbitrary<Sample> = fc.record({
  shape: fc.tuple(
    ...[3, 8, 12].map((max) => fc.integer({ min: 1, max })),
    four,
  ),
  order: fc.constantFrom<number[]>([1, 0, 2, 3], [2, 1, 0, 3], [1, 2, 3, 0]),
  picks: fc.boolean(),
}).map(({ shape, order, picks }): Sample => {
  const dtype = "bf16";
  const own = { offset: 0, strides: stridesOf(shape) };
  const moved = stridesOf(order.map((axis) => shape[axis]!));
  const view = {
    offset: 0,
    strides: shape.map((_, axis) => moved[order.indexOf(axis)]!),
  };
  const [rows, columns] = [shape[2]!, shape[3]!];
  const other: Expr = picks
    ? {
      kind: "gather",
      buffer: 0,
      view: { offset: 0, strides: [0, 0, 0, 1] },
      index: {
        kind: "index",
        view: { ...own, strides: [3, 5, 1, 0] },
        dtype: "i32",
      },
      stride: columns,
      size: 4 * rows,
      dtype,
    }
    : { kind: "load", buffer: 0, view, dtype };
  const wide = (arg: Expr): Expr => ({ kind: "cast", arg, dtype: "f32" });
  const sum = call("add", [
    wide({ kind: "load", buffer: 1, view: own, dtype }),
    wide(other),
  ]);
  const size = sizeOf(shape);
  return [
    {
      kind: "map",
      shape,
      outputs: [{
        buffer: 1,
        view: own,
        expr: { kind: "cast", arg: sum, dtype },
      }],
    },
    [
      narrow(wave(picks ? 4 * rows * columns : size, 3), dtype),
      narrow(wave(size), dtype),
    ],
  ];
});

/** Kinds of kernels, and bindings short enough for them to need several. */
const kinds: Record<string, [fc.Arbitrary<Sample>, bytes: number]> = {
  maps: [maps, 256],
  halves: [halves, 256],
  packed: [packed, 256],
  gathers: [gathers, 256],
  reductions: [reductions, 2 ** 14],
  sums: [sums, 1024],
  passes: [passes, 1024],
  products: [products, 2 ** 14],
  scatters: [scatters, 256],
  groups: [groups, 1024],
};

for (const schedule of scheduleNames) {
  for (const [name, [samples, bytes]] of Object.entries(kinds)) {
    Deno.test({
      name:
        `${name} with bindings of ${bytes} bytes agree with plain loops, ${schedule} schedule`,
      ignore,
      fn: async () => {
        // Buffers are as long as bindings, or longer. Of five tensors at once any piece may lie across two buffers.
        const longest = schedule === "software" || name === "sums"
          ? { binding: bytes }
          : { binding: bytes, buffer: bytes };
        const backend = await openBackend(schedule, 2 ** 30, longest);
        const holds = fc.asyncProperty(samples, async ([kernel, buffers]) => {
          try {
            await checkKernel(backend, kernel, buffers, tolerance(kernel));
          } catch (error) {
            // A planner that knows of the bindings cuts such a kernel.
            fc.pre(!(error instanceof DeviceError));
            throw error;
          }
        });
        await check(holds, 8);
        backend.dispose();
      },
    });
  }

  Deno.test({
    name:
      `every primitive gives with short bindings what it gives with long ones, ${schedule} schedule`,
    ignore,
    fn: async (t) => {
      const { narrow, wide, dispose } = await openBoth(schedule, {
        binding: 1024,
      });
      for (const op of opNames) {
        const sample = samples[op];
        const holds = fc.asyncProperty(sample, async (sample) => {
          const run = (): Tensor =>
            scope(() => applyOp(op, sample.inputs.map(upload), sample.params));
          using expected = withRuntime(wide, run);
          using actual = withRuntime(narrow, run);
          await assertClose(actual, expected, sample);
        });
        await t.step(op, () => check(holds, 3));
      }
      dispose();
    },
  });
}

/** The same backend with short and with long bindings. */
async function openBoth(
  schedule: typeof scheduleNames[number],
  longest: Longest,
): Promise<{ narrow: Runtime; wide: Runtime; dispose: () => void }> {
  const narrow = await openBackend(schedule, 2 ** 30, longest);
  const wide = await openBackend(schedule);
  return {
    narrow: createRuntime(narrow),
    wide: createRuntime(wide),
    dispose: () => [narrow, wide].forEach((backend) => backend.dispose()),
  };
}

for (
  const [what, longest] of Object.entries({
    "short bindings": { binding: 512 },
    "short buffers": { binding: 512, buffer: 512 },
  })
) {
  Deno.test({
    name: `gradients of programs are the same with ${what}`,
    ignore,
    fn: async () => {
      const { narrow, wide, dispose } = await openBoth("software", longest);
      const holds = fc.asyncProperty(programs, async (program) => {
        const run = (): Tensor[] => {
          using f = jit((...xs: Tensor[]) => buildWithGradient(program, xs));
          return scope(() => f(...program.inputs.map(upload)));
        };
        const expected = withRuntime(wide, run);
        const actual = withRuntime(narrow, run);
        for (const [i, x] of actual.entries()) {
          const options = { rtol: 1e-4, atol: 1e-5, what: `output ${i}` };
          await assertClose(x, expected[i]!, options);
        }
        for (const x of new Set([...actual, ...expected])) x.dispose();
      });
      await check(holds, 12);
      dispose();
    },
  });
}

/** The loss of a model and its gradients. */
function modelGradients(): Tensor[] {
  const sizes = { C: 16, H: 2, T: 8, V: 200, layers: 1 };
  const { f, args: [params] } = gradients(sizes);
  using program = jit(f);
  return scope(() => {
    const ids = random.uniform(random.key(1), [2, 9]).mul(200).cast("i32");
    const [x, y] = [0, 1].map((i) => ids.slice([null, [i, i + 8]]));
    const { value, grads } = program(params, x!, y!);
    return [value, ...tree.leaves(grads).map(({ leaf }) => leaf)];
  });
}

/** The logits of a model of halves, and the gradient of what comes before them. */
function throughHalves(): Tensor[] {
  const model = gpt2({
    vocab_size: 150,
    n_positions: 16,
    n_embd: 16,
    n_layer: 1,
    n_head: 2,
  });
  using program = jit((params: GPT2Params, ids: Tensor) => {
    const { transformer } = params;
    const [first] = transformer.h;
    const loss = (norm: Norm) => {
      const h = [{ ...first!, ln_1: norm }];
      const aux = model.apply({ transformer: { ...transformer, h } }, ids);
      return { loss: aux.logSoftmax().square().mean(), aux };
    };
    return valueAndGradAux(loss)(first!.ln_1);
  });
  return scope(() => {
    const params = tree.map(
      (x: Tensor) => x.shape.length === 2 ? x.cast("bf16") : x,
      model.init(random.key(2)),
    );
    const ids = iota([2, 8], { axis: 1 }).mul(21);
    const { aux, grads } = program(params, ids);
    return [aux, ...tree.leaves(grads).map(({ leaf }) => leaf)];
  });
}

const models = {
  "the gradients of a model": modelGradients,
  "logits and gradients of a model of halves": throughHalves,
};

for (const schedule of scheduleNames) {
  for (const [what, run] of Object.entries(models)) {
    Deno.test({
      name: `${what} are the same with short bindings, ${schedule} schedule`,
      ignore,
      fn: async () => {
        const { narrow, wide, dispose } = await openBoth(schedule, {
          binding: 4096,
        });
        const expected = withRuntime(wide, run);
        const actual = withRuntime(narrow, run);
        for (const [i, x] of actual.entries()) {
          await assertClose(x, expected[i]!, { rtol: 1e-4, atol: 1e-6 });
        }
        dispose();
      },
    });
  }
}
