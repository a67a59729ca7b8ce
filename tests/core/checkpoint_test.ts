/**
 * Tests of rematerialisation.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import {
  checkpoint,
  grad,
  hvp,
  jit,
  jvp,
  type Program,
  random,
  scan,
  softmax,
  type Tensor,
  tensor,
  tree,
  valueAndGrad,
  vmap,
} from "cotan";
import { checkGrads } from "cotan/testing";
import { assertClose } from "../support/allclose.ts";
import { eachBackend, inFloat64 } from "../support/backends.ts";
import { throws } from "../support/throws.ts";

/** Bounds in float64. */
const exact = { rtol: 1e-12, atol: 1e-12 };

type Block = (p: Params, x: Tensor) => Tensor;

interface Params {
  readonly [name: string]: Tensor;
  readonly up: Tensor;
  readonly down: Tensor;
}

const mlp: Block = (p, x) => x.add(x.matmul(p.up).gelu().matmul(p.down));

/** One head of attention over rows, then an MLP. */
const transformer: Block = (p, x) => {
  const scores = x.matmul(p.up).matmul(x.matmul(p.up).transpose());
  return mlp(p, x.add(softmax(scores).matmul(x)));
};

function paramsOf(layers: number, d: number, hidden: number): Params[] {
  return random.split(random.key(0), layers).map((key) => {
    const [up, down] = random.split(key, 2) as [Tensor, Tensor];
    return {
      up: random.normal(up, [d, hidden]).mul(0.1),
      down: random.normal(down, [hidden, d]).mul(0.1),
    };
  });
}

function lossOf(block: Block): (params: Params[], x: Tensor) => Tensor {
  return (params, x) => params.reduce((x, p) => block(p, x), x).square().mean();
}

eachBackend("gradients through checkpoints are those without", async () => {
  const params = paramsOf(3, 8, 16);
  const x = random.normal(random.key(1), [5, 8]);
  for (const block of [mlp, transformer]) {
    const { value, grads } = valueAndGrad(lossOf(block))(params, x);
    const both = valueAndGrad(lossOf(checkpoint(block)));
    using compiled = jit(both);
    for (const actual of [both(params, x), compiled(params, x)]) {
      await assertClose(actual.value, value, { terms: 40 });
      for (const { path, leaf } of tree.leaves(actual.grads)) {
        const expected = tree.at(grads, path) as Tensor;
        await assertClose(leaf, expected, { terms: 40, what: path });
      }
    }
  }
});

/** The plan of a training step of 12 blocks: gradients, clipped by their norm or not, then a step in place. */
function trainingStep(
  block: Block,
  clips: boolean,
  reversed: boolean,
): Program {
  const params = paramsOf(12, 32, 128);
  using step = jit((params: Params[], x: Tensor) => {
    const ordered = (p: Params[]) => reversed ? p.toReversed() : p;
    const { value, grads } = valueAndGrad((p: Params[], x: Tensor) =>
      lossOf(block)(ordered(p), x)
    )(params, x);
    const norm = tree.leaves(grads).map(({ leaf }) => leaf.square().sum())
      .reduce((a, b) => a.add(b)).sqrt();
    const scaled = clips ? tree.map((g) => g.div(norm), grads) : grads;
    return {
      value,
      params: tree.map((p, g) => p.sub(g!.mul(0.1)), params, scaled),
    };
  }, { donate: [0] });
  return step.program(params, random.normal(random.key(1), [256, 32]));
}

for (const [name, block] of Object.entries({ mlp, transformer })) {
  inFloat64(
    `checkpoints of 12 blocks halve the memory of a training step, ${name}`,
    () => {
      for (const clips of [false, true]) {
        for (const reversed of [false, true]) {
          const plain = trainingStep(block, clips, reversed);
          const saving = trainingStep(checkpoint(block), clips, reversed);
          const ratio = saving.arenaBytes / plain.arenaBytes;
          assert(ratio <= 0.5, `${ratio} of ${plain.arenaBytes} bytes`);
          // One forward pass more, of three.
          assert(saving.flops < 1.4 * plain.flops);
        }
      }
    },
  );
}

inFloat64(
  "what is computed again is computed once, and only for the gradient",
  () => {
    const f = (x: Tensor) => x.matmul(x).sin().matmul(x).sum();
    const products = (f: (x: Tensor) => tree.Tree) => {
      using compiled = jit(f);
      const { kernels } = compiled.program(tensor([[1, 2], [3, 4]]));
      return kernels.filter(({ kind }) => kind === "matmul").length;
    };
    const slope = (f: (x: Tensor) => Tensor) => (x: Tensor) => ({
      ...valueAndGrad(f)(x),
    });
    const squared = (f: (x: Tensor) => Tensor) => (x: Tensor) => f(x).square();
    assertEquals(products(checkpoint(f)), products(f));
    // The inner product is; the outer one is needed no more.
    const plain = products(slope(squared(f)));
    assertEquals(products(slope(squared(checkpoint(f)))), plain + 1);
    // Where nothing is waited for, nothing is computed again.
    assertEquals(products(slope(checkpoint(f))), products(slope(f)));
  },
);

Deno.test("checkpoints are differentiated to the second order", () =>
  checkGrads(
    (x, y) => {
      const inner = checkpoint((x: Tensor) => x.mul(y).sin());
      return checkpoint((x: Tensor, y: Tensor) => inner(x).mul(y).exp())(x, y);
    },
    [[0.3, -0.5], [0.2, 0.7]],
    { order: 2 },
  ));

eachBackend("checkpoints stand in checkpoints and in loops", async () => {
  const f = (x: Tensor) => x.sin().mul(x);
  const inner = checkpoint(f);
  const outer = checkpoint((x: Tensor) => inner(x).add(inner(x.neg()).exp()));
  const slope = (f: (x: Tensor) => Tensor) => {
    const step = (x: Tensor) => ({ carry: f(x), y: f(x).sum() });
    return valueAndGrad((x: Tensor) => {
      const { carry, ys } = scan(step, f(x), null, { length: 3 });
      return carry.sum().add(ys.sum());
    });
  };
  using compiled = jit(slope(outer));
  const x = tensor([0.3, -0.2]);
  const actual = compiled(x);
  const expected = slope((x) => f(x).add(f(x.neg()).exp()))(x);
  await assertClose(actual.value, expected.value, { terms: 40 });
  await assertClose(actual.grads, expected.grads, { terms: 40 });
});

eachBackend("loops stand in checkpoints", async () => {
  const f = (w: Tensor, x: Tensor) =>
    scan((h: Tensor) => ({ carry: h.mul(w).sin(), y: null }), x, null, {
      length: 3,
    }).carry;
  const slope = (f: (w: Tensor, x: Tensor) => Tensor) =>
    valueAndGrad(({ w, x }: { w: Tensor; x: Tensor }) =>
      f(w, f(w, x)).square().sum()
    );
  using compiled = jit(slope(checkpoint(f)));
  const at = { w: tensor([1.3, 0.7]), x: tensor([0.3, -0.2]) };
  const actual = compiled(at), expected = slope(f)(at);
  await assertClose(actual.grads.w, expected.grads.w, { terms: 40 });
  await assertClose(actual.grads.x, expected.grads.x, { terms: 40 });
});

inFloat64(
  "checkpoints stand in tangents, batches, and their gradients",
  async () => {
    const f = (x: Tensor, y: Tensor) => x.matmul(y).tanh().mul(x).sum();
    const g = checkpoint(f);
    const x = random.normal(random.key(0), [2, 2]);
    const y = random.normal(random.key(1), [3, 2, 2]);
    const [first] = [y.slice([[0, 1]]).squeeze(0)];
    await assertClose(
      jvp(g, [x, first], [first, x]).tangent,
      jvp(f, [x, first], [first, x]).tangent,
      exact,
    );
    await assertClose(
      hvp(g, [x, first], [first, x])[0]!,
      hvp(f, [x, first], [first, x])[0]!,
      exact,
    );
    const inAxes = [null, 0];
    const of = (f: (x: Tensor, y: Tensor) => Tensor) => [
      vmap(f, { inAxes })(x, y),
      vmap(grad(f), { inAxes })(x, y),
      grad((x: Tensor) => vmap(f, { inAxes })(x, y).square().sum())(x),
      grad((x: Tensor) => vmap(grad(f), { inAxes })(x, y).square().sum())(x),
    ];
    const expected = of(f);
    for (const [i, actual] of of(g).entries()) {
      await assertClose(actual, expected[i]!, { ...exact, what: `case ${i}` });
    }
  },
);

inFloat64(
  "each result of a checkpoint has its part in the gradient",
  async () => {
    const f = checkpoint((x: Tensor) => ({ a: x.square(), b: x.mul(3) }));
    const slope = grad((x: Tensor) => f(x).a.add(f(x).b).sum());
    assertEquals(await slope(tensor([1, 2])).toArray(), [5, 7]);
    const both = grad((x: Tensor) => {
      const { a, b } = f(x);
      return a.mul(b).sum();
    });
    assertEquals(await both(tensor([1, 2])).toArray(), [9, 36]);
  },
);

inFloat64("arguments and results of a checkpoint are trees", async () => {
  const f = checkpoint((
    p: { x: Tensor; hole: null; ids: Tensor },
    list: Tensor[],
  ) => ({ y: [p.x.mul(list[0]!)], ids: p.ids.add(1), hole: p.hole }));
  const p = {
    x: tensor([1, 2]),
    hole: null,
    ids: tensor([1], { dtype: "i32" }),
  };
  const out = f(p, [tensor([3, 4])]);
  assertEquals(await out.y[0]!.toArray(), [3, 8]);
  assertEquals(await out.ids.toArray(), [2]);
  assertEquals(out.hole, null);
  const slope = grad((x: Tensor) => f({ ...p, x }, [x]).y[0]!.sum());
  assertEquals(await slope(p.x).toArray(), [2, 4]);
});

let leaked: Tensor | undefined;
throws("a value of a checkpoint must not leave it", TypeError, [[
  () => {
    checkpoint((x: Tensor) => (leaked = x.sin()).mul(2))(tensor([1]));
    return leaked!.add(1);
  },
  "Cannot use f32[1] here: it belongs to a function whose tracing has ended; return it from that function",
]]);
