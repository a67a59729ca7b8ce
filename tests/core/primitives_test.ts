/**
 * Properties that hold for every primitive, over the samples of tests/support.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { jvp, type Tensor, vmap, zeros } from "cotan";
import { checkGrads } from "cotan/testing";
import {
  createRuntime,
  currentRuntime,
  type Runtime,
  withRuntime,
} from "../../core/context.ts";
import { createReferenceBackend } from "../../core/cpu/interpreter.ts";
import type { OpName } from "../../core/node.ts";
import { ops } from "../../core/ops.ts";
import { scalars } from "../../core/scalars.ts";
import { threefry2x32 } from "../../core/threefry.ts";
import { assertClose } from "../support/allclose.ts";
import { eachBackend, inFloat64 } from "../support/backends.ts";
import { stacked } from "../support/batches.ts";
import { createPlanBackend } from "../support/plan_interpreter.ts";
import { applyOp, opNames, pullback, upload } from "../support/primitives.ts";
import { check } from "../support/runs.ts";
import { type Sample, samples } from "../support/samples.ts";
import { fill, seeds, sizeOf } from "../support/values.ts";

/** What a scalar function on wasm is within: 3 units in the last place of what the reference rounds. */
const scalarBounds = { rtol: 3.5 * 2 ** -23, atol: 3 * 2 ** -149 };

/** Runs a step for each primitive: a property of a sample and a seed. */
async function eachPrimitive(
  t: Deno.TestContext,
  runs: number,
  property: (op: OpName, sample: Sample, seed: number) => Promise<void>,
  names: readonly OpName[] = opNames,
  where: (sample: Sample) => boolean = () => true,
): Promise<void> {
  for (const op of names) {
    const arbitrary: fc.Arbitrary<Sample> = samples[op];
    const holds = fc.asyncProperty(
      arbitrary.filter(where),
      seeds,
      (sample, seed) => property(op, sample, seed),
    );
    // There are many of them.
    await t.step(op, () => check(holds, runs, [], 2_000));
  }
}

/** The result of a sample on a runtime. */
function runOn(runtime: Runtime, op: OpName, sample: Sample): Tensor {
  return withRuntime(runtime, () => {
    const inputs = sample.inputs.map(upload);
    const out = applyOp(op, inputs, sample.params);
    for (const x of inputs) x.dispose();
    return out;
  });
}

/** Primitives with a derivative; that of the last two is 0. */
const differentiable = opNames.filter((op) =>
  ops[op].vjp || ops[op].kind === "tuple" || op === "floor" || op === "sign"
);

function isFloat({ inputs, type }: Sample): boolean {
  return type.dtype === "f32" && inputs.some(({ dtype }) => dtype === "f32");
}

inFloat64(
  "the type rule of every primitive gives the type of its result",
  (t) =>
    eachPrimitive(t, 60, async (op, { inputs, params, type }) => {
      const { shape, dtype } = op === "input"
        ? inputs[0]!
        : ops[op].type(inputs, params as never);
      assertEquals({ shape, dtype }, type);
      using out = applyOp(op, inputs.map(upload), params);
      assertEquals((await out.data()).length, sizeOf(type.shape));
    }),
);

Deno.test("the gradient of every primitive is that of finite differences, to the second order", (t) =>
  eachPrimitive(
    t,
    12,
    (op, { inputs, params }) =>
      checkGrads(
        (...xs) => applyOp(op, xs, params),
        inputs.map(upload),
        { order: 2 },
      ),
    differentiable,
    isFloat,
  ));

inFloat64(
  "the gradient of every primitive is linear in the cotangent",
  (t) =>
    eachPrimitive(
      t,
      6,
      async (op, sample, seed) => {
        const inputs = sample.inputs.map(upload);
        const [a, b] = [seed, seed + 1]
          .map((s) => upload(fill(sample.type.shape, "f32", s)));
        const of = (ct: Tensor): Tensor[] => pullback(op, inputs, sample, ct);
        const together = of(a!.mul(2).add(b!.mul(-3)));
        const left = of(a!), right = of(b!);
        for (const [i, ct] of together.entries()) {
          const sum = left[i]!.mul(2).add(right[i]!.mul(-3));
          await assertClose(ct, sum, { rtol: 1e-12, atol: 1e-12 });
        }
      },
      differentiable,
      isFloat,
    ),
);

inFloat64(
  "a tangent of every primitive has the inner product with a cotangent that is known from the pullback",
  (t) =>
    eachPrimitive(
      t,
      8,
      async (op, sample, seed) => {
        const inputs = sample.inputs.map(upload);
        const isFloat = inputs.map(({ dtype }) => dtype === "f32");
        const primals = inputs.filter((_, i) => isFloat[i]);
        const tangents = primals.map(({ shape }, i) =>
          upload(fill(shape, "f32", seed + i))
        );
        const ct = upload(fill(sample.type.shape, "f32", seed - 1));
        const f = (...floats: Tensor[]): Tensor => {
          const rest = [...floats];
          const all = inputs.map((x, i) => isFloat[i] ? rest.shift()! : x);
          return applyOp(op, all, sample.params);
        };
        const { out, tangent } = jvp(f, primals, tangents);
        await assertClose(out, f(...primals), { rtol: 0, atol: 0 });
        const products = pullback(op, inputs, sample, ct)
          .map((g, i) => g.mul(tangents[i]!).sum());
        const back = products.reduce((a, b) => a.add(b));
        const bound = ct.mul(tangent).abs().sum();
        const atol = 1e-12 * (1 + await bound.item());
        await assertClose(ct.mul(tangent).sum(), back, { rtol: 1e-12, atol });
      },
      differentiable,
      isFloat,
    ),
);

inFloat64(
  "vmap of every primitive is a loop over examples, whichever operands are mapped and along which axes",
  (t) =>
    eachPrimitive(t, 10, async (op, { inputs, params, type }, seed) => {
      const choose = (i: number, count: number): number =>
        threefry2x32([seed, i], [0, 0])[0] % count;
      for (let subset = 0; subset < 2 ** inputs.length; subset++) {
        const size = [0, 1, 2, 3][choose(subset, 4)]!;
        const examples = inputs.map((x, i) =>
          Array.from({ length: size }, (_, n) =>
            upload(n === 0 ? x : fill(x.shape, x.dtype, seed + 8 * i + n)))
        );
        const inAxes = inputs.map(({ shape }, i) =>
          subset >> i & 1 ? choose(8 + i, shape.length + 1) : null
        );
        const outAxis = choose(16, type.shape.length + 1);
        // One more argument is always mapped, so that no other need be.
        const batched = vmap(
          (_: Tensor, ...xs: Tensor[]) =>
            applyOp(op, xs, params),
          { inAxes: [0, ...inAxes], outAxis },
        );
        const out = batched(
          zeros([size]),
          ...inputs.map((x, i) =>
            inAxes[i] === null
              ? upload(x)
              : stacked(examples[i]!, x, inAxes[i]!)
          ),
        );
        const loop = Array.from({ length: size }, (_, n) =>
          applyOp(
            op,
            inputs.map((x, i) =>
              inAxes[i] === null ? upload(x) : examples[i]![n]!
            ),
            params,
          ));
        await assertClose(out, stacked(loop, type, outAxis), {
          rtol: 1e-12,
          atol: 1e-12,
          what: `${op} of axes ${inAxes}`,
        });
      }
    }),
);

Deno.test("no gradient flows through stopGradient", async (t) => {
  await eachPrimitive(
    t,
    5,
    async (op, sample) => {
      const inputs = sample.inputs.map(upload);
      const [ct] = pullback(op, inputs, sample, inputs[0]!);
      await assertClose(ct!, inputs[0]!.mul(0));
    },
    ["stopGradient"],
    isFloat,
  );
});

Deno.test("a plan of every primitive gives what the reference gives", (t) => {
  const reference = createRuntime(createReferenceBackend("f64"));
  const limits = {
    buffersPerKernel: 4,
    buffersPerLaunch: 8,
    bytesPerBuffer: 2 ** 20,
    bytesPerBinding: 2 ** 20,
    alignment: 64,
  };
  const planned = createRuntime(createPlanBackend(limits));
  return eachPrimitive(t, 60, async (op, sample) => {
    using expected = runOn(reference, op, sample);
    using actual = runOn(planned, op, sample);
    await assertClose(actual, expected, { rtol: 1e-12, atol: 1e-12 });
  });
});

eachBackend(
  "every primitive gives what the reference gives",
  async (name, t) => {
    const runs = name === "wasm" ? 40 : 6;
    const reference = createRuntime(createReferenceBackend());
    const backend = currentRuntime();
    await eachPrimitive(t, runs, async (op, sample) => {
      using expected = runOn(reference, op, sample);
      using actual = runOn(backend, op, sample);
      const isScalar = name === "wasm" && op in scalars;
      await assertClose(actual, expected, isScalar ? scalarBounds : sample);
    });
  },
  ["wasm", "webgpu"],
);
