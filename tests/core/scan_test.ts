/**
 * Tests of loops against the same steps unrolled.
 *
 * @module
 */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import {
  checkpoint,
  DTypeError,
  grad,
  hvp,
  iota,
  jit,
  jvp,
  ones,
  random,
  scan,
  type Scanned,
  type ScanOptions,
  scope,
  ShapeError,
  stack,
  type Tensor,
  tensor,
  tree,
  TreeError,
  valueAndGrad,
  vmap,
  zeros,
} from "cotan";
import { checkGrads } from "cotan/testing";
import {
  createRuntime,
  currentRuntime,
  withRuntime,
} from "../../core/context.ts";
import { createReferenceBackend } from "../../core/cpu/interpreter.ts";
import { assertClose } from "../support/allclose.ts";
import { eachBackend, inFloat64 } from "../support/backends.ts";
import { loop } from "../support/batches.ts";
import { build, type Program, programs } from "../support/graphs.ts";
import { checkPlan } from "../support/plan_checks.ts";
import { createPlanBackend } from "../support/plan_interpreter.ts";
import { upload } from "../support/primitives.ts";
import { check } from "../support/runs.ts";
import { bool, f32, throws } from "../support/throws.ts";

/** Bounds in float64. */
const exact = { rtol: 1e-10, atol: 1e-10 };

type Step<C, X, Y> = (carry: C, x: X) => Scanned<C, Y>;

/** What `scan` does, step by step. */
function unrolled<
  C extends tree.Tree,
  X extends tree.Tree,
  Y extends tree.Tree,
>(
  f: Step<C, X, Y>,
  carry: C,
  xs: X,
  options: ScanOptions = {},
): { carry: C; ys: Y } {
  const length = options.length ?? tree.leaves(xs)[0]!.leaf.shape[0]!;
  const ys: Y[] = [];
  for (let k = 0; k < length; k++) {
    const i = options.reverse ? length - 1 - k : k;
    const x = tree.map((x) => x.slice([[i, i + 1]]).squeeze(0), xs);
    const next = f(carry, x);
    carry = next.carry;
    ys[i] = next.y;
  }
  const [first, ...rest] = ys;
  return {
    carry,
    ys: tree.map((...leaves) => stack(leaves), first!, ...rest) as Y,
  };
}

/** A recurrent network: h' = tanh(h W + x V + b). */
interface Rnn {
  readonly [name: string]: Tensor;
  readonly w: Tensor;
  readonly v: Tensor;
  readonly b: Tensor;
}

function rnnOf(hidden: number, inputs: number): Rnn {
  const [w, v, b] = random.split(random.key(3), 3) as [Tensor, Tensor, Tensor];
  return {
    w: random.normal(w, [hidden, hidden]).mul(0.4),
    v: random.normal(v, [inputs, hidden]).mul(0.4),
    b: random.normal(b, [hidden]).mul(0.4),
  };
}

const rnnLoss =
  (loop: typeof scan, options: ScanOptions = {}) => (p: Rnn, xs: Tensor) => {
    const step = (h: Tensor, x: Tensor) => {
      const next = h.matmul(p.w).add(x.matmul(p.v)).add(p.b).tanh();
      return { carry: next, y: next.mul(h) };
    };
    const h = zeros([xs.shape[1]!, p.w.shape[0]!]);
    const { carry, ys } = loop(step, h, xs, options);
    return carry.square().sum().add(ys.sin().sum());
  };

eachBackend(
  "a recurrent network and its gradient are those of unrolled steps",
  async () => {
    const xs = random.normal(random.key(1), [7, 2, 3]);
    const p = rnnOf(5, 3);
    for (const reverse of [false, true]) {
      const both = valueAndGrad(rnnLoss(scan, { reverse }));
      const expected = valueAndGrad(rnnLoss(unrolled, { reverse }))(p, xs);
      using compiled = jit(both);
      for (const actual of [both(p, xs), compiled(p, xs), compiled(p, xs)]) {
        await assertClose(actual.value, expected.value, { terms: 90 });
        for (const { path, leaf } of tree.leaves(actual.grads)) {
          const like = tree.at(expected.grads, path) as Tensor;
          await assertClose(leaf, like, { terms: 90, what: path });
        }
      }
    }
  },
);

Deno.test("the gradient of a loop is that of finite differences, to the second order", async () => {
  const w = [[0.1, 0.2], [0.3, -0.5]], v = [[0.4, -0.1]], b = [0.2, 0.1];
  const xs = [[[1]], [[0.3]], [[-0.4]]];
  for (const reverse of [false, true]) {
    await checkGrads(
      (w, v, b, xs) => rnnLoss(scan, { reverse })({ w, v, b }, xs),
      [w, v, b, xs],
      { order: 2 },
    );
  }
});

inFloat64(
  "tangents go through loops, and through their gradients",
  async () => {
    const xs = random.normal(random.key(1), [4, 2, 3]);
    const p = rnnOf(5, 3);
    const along = tree.map((x) => x.sin(), p);
    const f = (p: Rnn) => rnnLoss(scan)(p, xs);
    const g = (p: Rnn) => rnnLoss(unrolled)(p, xs);
    const { tangent } = jvp(f, [p], [along]);
    await assertClose(tangent, jvp(g, [p], [along]).tangent, exact);
    using compiled = jit((p: Rnn) => hvp(f, [p], [along])[0]);
    const expected = hvp(g, [p], [along])[0];
    for (const { path, leaf } of tree.leaves(compiled(p))) {
      await assertClose(leaf, tree.at(expected, path) as Tensor, exact);
    }
  },
);

eachBackend("carries of all dtypes may change places", async () => {
  const carry = {
    a: tensor([1, 2]),
    b: tensor([3, 4]),
    i: tensor([1, 2, 3], { dtype: "i32" }),
    m: tensor([[true], [false]]),
    none: zeros([0, 2]),
    u: tensor(7, { dtype: "u32" }),
  };
  type Carry = typeof carry;
  const step = ({ a, b, i, m, none, u }: Carry, x: Tensor) => ({
    carry: { a: b, b: a, i: i.mul(2), m: m.not(), none: none.add(1), u },
    y: { sum: a.add(x), i, m, any: a.lt(b), none },
  });
  const f = (carry: Carry, xs: Tensor) => scan(step, carry, xs);
  const xs = tensor([0.5, 1, 2]);
  const expected = unrolled(step, carry, xs);
  using compiled = jit(f);
  for (const actual of [f(carry, xs), compiled(carry, xs)]) {
    const leaves = tree.leaves(actual), others = tree.leaves(expected);
    for (const [i, { path, leaf }] of leaves.entries()) {
      assertEquals(path, others[i]!.path);
      await assertClose(leaf, others[i]!.leaf);
    }
  }
});

eachBackend(
  "a loop of no steps gives the carry, and empty stacks",
  async () => {
    const f = (w: Tensor, xs: Tensor) => {
      const step = (h: Tensor, x: Tensor) => ({ carry: h.mul(x), y: h });
      const { carry, ys } = scan(step, w.square(), xs);
      return { loss: carry.sum(), ys };
    };
    const w = tensor([1, 2]), xs = zeros([0, 2]);
    using compiled = jit(f);
    for (const { loss, ys } of [f(w, xs), compiled(w, xs)]) {
      assertEquals(await loss.item(), 5);
      assertEquals(ys.shape, [0, 2]);
    }
    const slope = grad((w: Tensor) => f(w, xs).loss);
    assertEquals(await slope(w).toArray(), [2, 4]);
  },
);

eachBackend("a loop without xs counts its steps", async () => {
  const { carry, ys } = scan(
    (x: Tensor) => ({ carry: x.mul(2), y: { at: x, none: null } }),
    tensor(1),
    null,
    { length: 5 },
  );
  assertEquals(await carry.item(), 32);
  assertEquals(await ys.at.toArray(), [1, 2, 4, 8, 16]);
  assertEquals(ys.none, null);
});

eachBackend("loops nest", async () => {
  // A network whose layers are a loop, in a loop over time.
  const loss = (loop: typeof scan) => (layers: Tensor, xs: Tensor) => {
    const step = (h: Tensor, x: Tensor) => {
      const { carry, ys } = loop(
        (h: Tensor, w: Tensor) => ({ carry: h.matmul(w).sin(), y: h.sum() }),
        h.add(x),
        layers,
        { reverse: true },
      );
      return { carry, y: ys };
    };
    const { carry, ys } = loop(step, zeros([2, 3]), xs);
    return carry.sum().add(ys.square().sum());
  };
  const layers = random.normal(random.key(0), [3, 3, 3]).mul(0.5);
  const xs = random.normal(random.key(1), [4, 2, 3]).mul(0.5);
  using compiled = jit(valueAndGrad(loss(scan)));
  const actual = compiled(layers, xs);
  const expected = valueAndGrad(loss(unrolled))(layers, xs);
  await assertClose(actual.value, expected.value, { terms: 30 });
  await assertClose(actual.grads, expected.grads, { terms: 30 });
});

Deno.test("gradients of nested loops are those of finite differences, to the second order", () =>
  checkGrads(
    (w, xs) => {
      const inner = (h: Tensor, x: Tensor) =>
        scan(
          (h: Tensor) => ({ carry: h.mul(w).add(x).sin(), y: null }),
          h,
          null,
          { length: 2 },
        ).carry;
      const step = (h: Tensor, x: Tensor) => ({
        carry: inner(h, x),
        y: h.mul(x),
      });
      const { carry, ys } = scan(step, w.square(), xs);
      return ys.add(carry);
    },
    [0.3, [0.5, 0.2]],
    { order: 2 },
  ));

eachBackend(
  "gradients and checkpoints may stand in a step, and loops in a checkpoint",
  async () => {
    const f = (x: Tensor) => x.sin().mul(x).sum();
    // Descent down a gradient, differentiated by where it starts.
    const descend =
      (loop: typeof scan, wrap: typeof checkpoint) => (x: Tensor) => {
        const step = wrap((x: Tensor) => x.sub(grad(f)(x).mul(0.1)));
        const all = wrap((x: Tensor) =>
          loop((x: Tensor) => ({ carry: step(x), y: null }), x, null, {
            length: 4,
          }).carry
        );
        return f(all(x));
      };
    const x = tensor([0.3, -1, 2]);
    const same = ((f: unknown) => f) as typeof checkpoint;
    using compiled = jit(grad(descend(scan, checkpoint)));
    await assertClose(
      compiled(x),
      grad(descend(
        (step, x, xs, options) => {
          for (let i = 0; i < options!.length!; i++) x = step(x, xs).carry;
          return { carry: x, ys: null as never };
        },
        same,
      ))(x),
      { terms: 4 },
    );
  },
);

eachBackend(
  "gradients summed over micro-batches are those of the batch",
  async () => {
    const w = random.normal(random.key(0), [3, 4]);
    const x = random.normal(random.key(1), [12, 3]);
    const loss = (w: Tensor, x: Tensor) => x.matmul(w).tanh().square().sum();
    const step = (w: Tensor) => (sum: Tensor, x: Tensor) => {
      const { value, grads } = valueAndGrad(loss)(w, x);
      return { carry: sum.add(grads), y: value };
    };
    using accumulated = jit((w: Tensor, x: Tensor) =>
      scan(step(w), zeros(w.shape), x.reshape([4, 3, 3]))
    );
    const { carry, ys } = accumulated(w, x);
    const { value, grads } = valueAndGrad(loss)(w, x);
    await assertClose(carry, grads, { terms: 12 });
    await assertClose(ys.sum(), value, { terms: 48 });
  },
);

eachBackend("donated carries are updated in place", async () => {
  using f = jit(
    (h: Tensor, xs: Tensor) =>
      scan((h: Tensor, x: Tensor) => ({ carry: h.mul(x), y: null }), h, xs)
        .carry,
    { donate: [0] },
  );
  const xs = tensor([2, 3, 4]);
  assertStringIncludes(String(f.program(ones([2]), xs)), "1 in place");
  assertEquals(await f(ones([2]), xs).toArray(), [24, 24]);
});

inFloat64("a program is as small for a thousand steps as for one", () => {
  using f = jit(valueAndGrad(rnnLoss(scan)));
  const p = rnnOf(5, 3);
  const of = (length: number) => f.program(p, zeros([length, 2, 3]));
  const one = of(1), many = of(1000);
  assertEquals(many.kernels.length, one.kernels.length);
  assert(many.kernels.length <= 40, `${many.kernels.length} kernels`);
  const lines = String(many).split("\n");
  assertEquals(
    lines.filter((line) => /^loop ×1000: kernels \d+-\d+$/.test(line)).length,
    2,
  );
  const product = (p: typeof one) =>
    p.kernels.find(({ kind }) => kind === "matmul")!;
  assertEquals(product(many).flops, 1000 * product(one).flops);
});

inFloat64("what nobody reads of a loop is not computed", () => {
  using f = jit((x: Tensor) => {
    const step = ({ a, b }: { a: Tensor; b: Tensor }, i: Tensor) => ({
      carry: { a: a.add(1), b: b.exp().matmul(b) },
      y: { used: a, unused: b.sin().add(i.cast("f32")) },
    });
    const { carry, ys } = scan(step, { a: x, b: x }, iota([5]));
    return [carry.a, ys.used];
  });
  const { kernels } = f.program(ones([2, 2]));
  assert(kernels.every(({ kind }) => kind !== "matmul"));
  assert(kernels.length <= 8, `${kernels.length} kernels`);
});

eachBackend(
  "a batch of loops is a loop over examples, and so are its gradients",
  async () => {
    const loss = (w: Tensor, xs: Tensor) => {
      const step = ({ h, n }: { h: Tensor; n: Tensor }, x: Tensor) => ({
        carry: { h: h.matmul(w).add(x).tanh(), n: n.add(1) },
        y: { h: h.mul(x), late: n.gt(1) },
      });
      const init = { h: zeros([1, 3]), n: zeros([], { dtype: "i32" }) };
      const { carry, ys } = scan(step, init, xs, { reverse: true });
      const late = ys.late.cast("f32").reshape([4, 1, 1]);
      return ys.h.mul(late).sum().add(carry.h.square().sum());
    };
    const w = random.normal(random.key(0), [3, 3]);
    const xs = random.normal(random.key(1), [2, 4, 1, 3]);
    const inAxes = [null, 0];
    type F = typeof loss;
    const of = (batched: (f: F) => F) => (w: Tensor, xs: Tensor) => [
      batched(loss)(w, xs),
      batched(grad(loss))(w, xs),
      grad((w: Tensor) => batched(loss)(w, xs).square().sum())(w),
      grad((w: Tensor) => batched(grad(loss))(w, xs).square().sum())(w),
      vmap((xs: Tensor) => batched(loss)(w, xs))(stack([xs, xs.sin()])),
    ];
    const expected = of((f) => loop(f, 2, inAxes))(w, xs);
    using compiled = jit(of((f) => vmap(f, { inAxes })));
    for (const [i, actual] of compiled(w, xs).entries()) {
      await assertClose(actual, expected[i]!, {
        terms: 100,
        what: `case ${i}`,
      });
    }
  },
);

/** A random program as the step of a loop: results, kept small, take the places of carries of their shapes. */
function loopOf(
  loop: typeof scan,
  program: Program,
  inputs: readonly Tensor[],
): Tensor[] {
  const step = (carry: Tensor[], x: Tensor) => {
    const [first, ...others] = carry;
    const results = build(program, [first!.add(x), ...others]);
    const pool = [...results.map((y) => y.tanh()), ...carry];
    const next = carry.map((c, i) =>
      pool.slice(i).find((y) => y !== c && String(y) === String(c)) ?? c
    );
    return { carry: next, y: results };
  };
  const { carry, ys } = loop(step, [...inputs], tensor([0.1, -0.2, 0.3]));
  return [...carry, ...ys];
}

function loopAndGradient(
  loop: typeof scan,
  program: Program,
  inputs: readonly Tensor[],
): Tensor[] {
  const { value, grads } = valueAndGrad((inputs: Tensor[]) =>
    loopOf(loop, program, inputs).map((x) => x.sin().sum())
      .reduce((a, b) => a.add(b))
  )([...inputs]);
  return [value, ...grads];
}

for (const f of [loopOf, loopAndGradient]) {
  const what = f === loopOf ? "a loop" : "the gradient of a loop";
  Deno.test(`the plan of ${what} over a random program gives what unrolled steps give`, async () => {
    const limits = {
      buffersPerKernel: 4,
      bytesPerBuffer: 2 ** 20,
      alignment: 4,
    };
    const reference = createRuntime(createReferenceBackend("f64"));
    const planned = createRuntime(
      createPlanBackend(limits, (plan) => checkPlan(plan, limits)),
    );
    const holds = fc.asyncProperty(programs, async (program) => {
      const donate = program.inputs.flatMap((_, i) =>
        program.donated[i] ? [i] : []
      );
      const actual = withRuntime(planned, () => {
        using compiled = jit(
          (...inputs: Tensor[]) => f(scan, program, inputs),
          { donate },
        );
        return scope(() => compiled(...program.inputs.map(upload)));
      });
      const expected = withRuntime(
        reference,
        () => f(unrolled, program, program.inputs.map(upload)),
      );
      for (const [i, x] of actual.entries()) {
        await assertClose(x, expected[i]!, {
          rtol: 1e-8,
          atol: 1e-8,
          what: `output ${i}`,
        });
      }
    });
    await check(holds, 100);
  });
}

eachBackend("random programs run in loops as unrolled", async (name) => {
  const reference = createRuntime(createReferenceBackend());
  const backend = currentRuntime();
  const holds = fc.asyncProperty(programs, async (program) => {
    const run = () => {
      using compiled = jit((...inputs: Tensor[]) =>
        loopAndGradient(scan, program, inputs)
      );
      return scope(() => compiled(...program.inputs.map(upload)));
    };
    const actual = withRuntime(backend, run);
    const expected = withRuntime(reference, run);
    for (const [i, x] of actual.entries()) {
      await assertClose(x, expected[i]!, { rtol: 1e-3, atol: 1e-4 });
    }
  });
  await check(holds, name === "wasm" ? 60 : 8);
}, ["wasm", "webgpu"]);

const grown = (h: Tensor) => ({ carry: h.add(zeros([3, 2])), y: null });

throws("a step must give the carry that it takes", ShapeError, [
  [
    () => scan(grown, f32(2), null, { length: 1 }),
    "Cannot scan with carry f32[2]: the step gives f32[3, 2]",
  ],
  [
    () =>
      scan(
        ({ a }: { a: Tensor[] }) => ({ carry: { a: [a[1]!, a[0]!] }, y: null }),
        { a: [f32(2), f32(3)] },
        null,
        { length: 0 },
      ),
    "Cannot scan with carry f32[2] at a.0: the step gives f32[3]",
  ],
]);

throws("a step must give the dtypes of the carry", DTypeError, [[
  () =>
    scan(
      (c: { m: Tensor }) => ({ carry: { m: c.m.cast("f32") }, y: null }),
      {
        m: bool(2),
      },
      null,
      { length: 1 },
    ),
  "Cannot scan with carry bool[2] at m: the step gives f32[2]",
]]);

throws("a step must give the leaves of the carry", TreeError, [
  [
    () =>
      scan(
        (_: { a: Tensor | null }) => ({ carry: { a: null }, y: null }),
        { a: f32(2) },
        null,
        { length: 1 },
      ),
    "Cannot scan with carry f32[2] at a: the step gives none there",
  ],
  [
    () =>
      scan(
        (_: Record<string, Tensor>) => ({ carry: { b: f32(1) }, y: null }),
        {},
        f32(2),
      ),
    "Cannot scan with no carry at b: the step gives f32[1] there",
  ],
]);

const step = (h: Tensor) => ({ carry: h, y: null });
throws("the steps of xs must agree", ShapeError, [
  [
    () => scan(step, f32(), { a: f32(3, 2), b: [f32(4)] }),
    "Cannot scan 3 steps over f32[4] at b.0: it has 4",
  ],
  [
    () => scan(step, f32(), f32(3), { length: 2 }),
    "Cannot scan 2 steps over f32[3]: it has 3",
  ],
  [
    () => scan(step, f32(), { a: f32() }),
    "Cannot scan over f32[] at a: it has no axis of steps",
  ],
  [
    () => scan(step, f32(), null),
    "Cannot scan over no tensor: give the number of steps as length",
  ],
  [
    () => scan(step, f32(), null, { length: 1.5 }),
    "Cannot scan 1.5 steps: the number must be an integer from 0",
  ],
]);
