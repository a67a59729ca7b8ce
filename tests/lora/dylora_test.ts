import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  grad,
  init,
  jit,
  memory,
  random,
  type Tensor,
  tensor,
  tree,
  TreeError,
  valueAndGrad,
} from "../../core/mod.ts";
import {
  atEachRank,
  atRank,
  drawRank,
  dylora,
  type DyloraOptions,
  isAdapter,
  rankwise,
  truncate,
} from "../../lora/mod.ts";
import { adamw, applyUpdates, type LlamaParams, sgd } from "../../nn/mod.ts";
import { check } from "../support/runs.ts";
import { adapt, baseParams, logits, model, trained } from "./support.ts";

await init({ backend: "reference", precision: "f64" });

const params = baseParams();
const R = 4;
const input = tensor(Int32Array.of(1, 2, 3, 4, 10, 0), { shape: [2, 3] });

function make(changes: Partial<DyloraOptions> = {}): LlamaParams {
  return trained(dylora(params, {
    targets: ["q_proj", "v_proj"],
    rank: R,
    alpha: 6,
    key: random.key(7),
    ...changes,
  }));
}

const integer = (value: number) => tensor(value, { dtype: "i32" });
const someRank = fc.integer({ min: 1, max: R });

/** Gradients of the adapters of a sum of logits. */
function gradients(tuned: LlamaParams, b: number): LlamaParams {
  const [adapters, rest] = tree.partition(tuned, isAdapter);
  return grad((t: LlamaParams) =>
    model.apply(atRank(tree.merge(t, rest), b), input).square().sum()
  )(adapters);
}

/** Leaves as rank-major rows: of A its rows, of B its columns. */
async function rowsOf(params: LlamaParams): Promise<number[][][]> {
  return await Promise.all(
    tree.leaves(params).map(({ path, leaf }) =>
      (path.endsWith("b") ? leaf.transpose() : leaf).toArray() as Promise<
        number[][]
      >
    ),
  );
}

Deno.test("at rank b an adapter computes what it does cut to b, bit for bit", async () => {
  const property = fc.asyncProperty(someRank, someRank, async (b, before) => {
    const tuned = make();
    const expected = await logits(truncate(tuned, b));
    assertEquals(await logits(atRank(tuned, b)), expected);
    // Whatever rank was set before, and for a traced rank.
    const again = atRank(atRank(tuned, before), integer(b));
    const close = await logits(again);
    close.forEach((x, i) => assert(Math.abs(x - expected[i]!) < 1e-12));
  });
  await check(property, 10);
});

Deno.test("at its own rank it is LoRA, bit for bit", async () => {
  const plain = trained(adapt(params, { rank: R }));
  assertEquals(await logits(make()), await logits(plain));
  assertEquals(await logits(atRank(make(), R)), await logits(plain));
  assertEquals(await logits(truncate(make(), R)), await logits(plain));
});

Deno.test("ordinary adapters are cut in the same way", async () => {
  const plain = trained(adapt(params, { rank: R }));
  const expected = await logits(truncate(make(), 2));
  assertEquals(await logits(truncate(plain, 2)), expected);
  assertEquals(await logits(atRank(plain, 2)), expected);
});

Deno.test("truncate gives ordinary adapters of rank b with scale alpha / b", async () => {
  const { lora } = truncate(make(), 3).model.layers[0]!.self_attn.q_proj;
  assertEquals(Object.keys(lora!), ["a", "b", "scale"]);
  assertEquals(lora!.a.shape, [3, 8]);
  assertEquals(lora!.b.shape, [8, 3]);
  assertEquals(await lora!.scale.item(), 2);
});

Deno.test("in mode full the first b rows learn, in mode frozen those behind the trained rank before b", async () => {
  for (
    const { ranks, b, learn } of [
      { ranks: [1, 2, 3, 4], b: 3, learn: [2] },
      { ranks: [1, 2, 3, 4], b: 1, learn: [0] },
      { ranks: [1, 4], b: 4, learn: [1, 2, 3] },
      { ranks: [2, 4], b: 2, learn: [0, 1] },
    ]
  ) {
    const full = await rowsOf(gradients(make({ mode: "full", ranks }), b));
    const frozen = await rowsOf(gradients(make({ ranks }), b));
    full.forEach((rows, leaf) =>
      rows.forEach((row, i) => {
        assertEquals(row.some((g) => g !== 0), i < b);
        const expected = learn.includes(i) ? row : row.map(() => 0);
        frozen[leaf]![i]!.forEach((g, j) =>
          assert(Math.abs(g - expected[j]!) < 1e-10)
        );
      })
    );
  }
});

Deno.test("the gradient that goes on to x is the same in both modes", async () => {
  const first = (mode: "full" | "frozen") => {
    const tuned = make({ mode });
    const [base, rest] = tree.partition(tuned, "model.embed_tokens.weight");
    const g = grad((t: LlamaParams) =>
      model.apply(atRank(tree.merge(t, rest), 3), input).square().sum()
    )(base);
    return g.model.embed_tokens.weight.data();
  };
  assertEquals(await first("full"), await first("frozen"));
});

Deno.test("one compiled program trains every rank", () => {
  const [start, frozen] = tree.partition(make(), isAdapter);
  const optimizer = rankwise((learningRate) => adamw({ learningRate }), {
    learningRate: 0.01,
    ranks: [1, 2, 3, 4],
  });
  type State = ReturnType<typeof optimizer.init>;
  using step = jit(
    (t: LlamaParams, s: State, b: Tensor) => {
      const { value, grads } = valueAndGrad((t: LlamaParams) =>
        model.apply(atRank(tree.merge(t, frozen), b), input).square().mean()
      )(t);
      const { updates, state } = optimizer.update(grads, s, t, b);
      return { t: applyUpdates(t, updates), state, value };
    },
    { donate: [0, 1] },
  );
  let t = start, s = optimizer.init(start);
  const { programs } = memory();
  for (const b of [1, 4, 2, 3, 4]) {
    const out = step(t, s, integer(b));
    out.value.dispose();
    t = out.t;
    s = out.state;
    assertEquals(memory().programs, programs + 1);
  }
});

/** A tree with one adapter. */
type Tuned = { lora: { a: Tensor; b: Tensor } };

/** Gradients of a step, made up. */
function madeUp(step: number): Tuned {
  const draw = (shape: number[], i: number) =>
    random.normal(random.foldIn(random.key(step), i), shape);
  return { lora: { a: draw([R, 3], 0), b: draw([2, R], 1) } };
}

Deno.test("each rank moves in its own steps alone, as by an optimizer of its own at the common rate", async () => {
  const steps = [3, 1, 3, 4, 2, 3, 1];
  const schedule = (count: Tensor) => count.cast("f32").add(1).mul(0.01);
  const optimizer = rankwise((learningRate) => adamw({ learningRate }), {
    learningRate: schedule,
    ranks: [1, 2, 3, 4],
  });
  let own: Tuned = madeUp(100), state = optimizer.init(own);
  // The same by hand: an adamw for each rank, which sees its own steps.
  const single = (t: Tuned, i: number): Tuned => ({
    lora: {
      a: t.lora.a.slice([[i, i + 1]]),
      b: t.lora.b.slice([null, [i, i + 1]]),
    },
  });
  const each = Array.from({ length: R }, (_, i) => {
    const params = single(own, i);
    return { params, state: adamw({ learningRate: 1 }).init(params) };
  });
  for (const [n, b] of steps.entries()) {
    const grads = madeUp(n);
    const before = await rowsOf(own as unknown as LlamaParams);
    const out = optimizer.update(grads, state, own, integer(b));
    own = applyUpdates(own, out.updates);
    state = out.state;
    const after = await rowsOf(own as unknown as LlamaParams);
    after.forEach((rows, leaf) =>
      rows.forEach((row, i) => {
        if (i !== b - 1) assertEquals(row, before[leaf]![i]);
      })
    );
    const mine = each[b - 1]!;
    const { update } = adamw({ learningRate: 0.01 * (n + 1) });
    const { updates, state: next } = update(
      single(grads, b - 1),
      mine.state,
      mine.params,
    );
    mine.params = applyUpdates(mine.params, updates);
    mine.state = next;
  }
  const expected = await Promise.all(
    each.map(({ params }) => rowsOf(params as unknown as LlamaParams)),
  );
  const found = await rowsOf(own as unknown as LlamaParams);
  found.forEach((rows, leaf) =>
    rows.forEach((row, i) =>
      row.forEach((x, j) =>
        assert(Math.abs(x - expected[i]![leaf]![0]![j]!) < 1e-12)
      )
    )
  );
  assertEquals(await state.adapters.count.toArray(), [2, 1, 3, 1]);
});

Deno.test("with the authors' momentum every rank moves in every step, as by the optimizer itself", async () => {
  const rate = 0.01;
  const optimizer = rankwise((learningRate) => adamw({ learningRate }), {
    learningRate: rate,
    ranks: [1, 2, 3, 4],
    momentum: "reference",
  });
  const plain = adamw({ learningRate: rate });
  let own = madeUp(100), other = own;
  let state = optimizer.init(own), moments = plain.init(own);
  for (const [n, b] of [3, 1, 4].entries()) {
    const grads = madeUp(n);
    const out = optimizer.update(grads, state, own, integer(b));
    own = applyUpdates(own, out.updates);
    state = out.state;
    const next = plain.update(grads, moments, other);
    other = applyUpdates(other, next.updates);
    moments = next.state;
  }
  const [x, y] = [await own.lora.b.data(), await other.lora.b.data()];
  x.forEach((value, i) => assert(Math.abs(value - y[i]!) < 1e-12));
});

Deno.test("what is no adapter is updated in each step", async () => {
  const optimizer = rankwise((learningRate) => sgd({ learningRate }), {
    learningRate: 1,
    ranks: [1, 4],
    mode: "full",
  });
  const params = { ...madeUp(0), head: { bias: tensor([1, 2]) } };
  const grads = { ...madeUp(1), head: { bias: tensor([1, -1]) } };
  const { updates } = optimizer.update(
    grads,
    optimizer.init(params),
    params,
    integer(1),
  );
  assertEquals(await updates.head.bias.toArray(), [-1, 1]);
  const still = await updates.lora.a.slice([[1, R]]).abs().sum().item();
  assertEquals(still, 0);
  assert(await updates.lora.a.slice([[0, 1]]).abs().sum().item() > 0);
});

Deno.test("ranks are drawn uniformly or geometrically, from those given", async () => {
  const count = async (options: Parameters<typeof drawRank>[1]) => {
    const found = new Map<number, number>();
    for (const key of await keys()) {
      using b = drawRank(key, options);
      const value = await b.item();
      found.set(value, (found.get(value) ?? 0) + 1);
    }
    return options.ranks.map((b) => found.get(b) ?? 0);
  };
  const n = 600;
  const keys = () =>
    Promise.resolve(
      Array.from({ length: n }, (_, i) => random.foldIn(random.key(1), i)),
    );
  const uniform = await count({ ranks: [1, 2, 4] });
  // Five standard deviations.
  uniform.forEach((c) =>
    assert(Math.abs(c - n / 3) < 5 * Math.sqrt(n * 2 / 9))
  );
  const geometric = await count({
    ranks: [1, 2, 4],
    distribution: "geometric",
    p: 0.5,
  });
  [4 / 7, 2 / 7, 1 / 7].forEach((share, i) =>
    assert(
      Math.abs(geometric[i]! - n * share) <
        5 * Math.sqrt(n * share * (1 - share)),
    )
  );
});

Deno.test("a function is evaluated at each rank in one call", async () => {
  const tuned = make();
  const loss = (t: LlamaParams) => model.apply(t, input).square().mean();
  const all = await atEachRank(loss, tuned, [1, 3, 4]).data();
  for (const [i, b] of [1, 3, 4].entries()) {
    const expected = await loss(truncate(tuned, b)).item();
    assert(Math.abs(all[i]! - expected) < 1e-10);
  }
});

Deno.test("ranks that do not fit are errors", () => {
  const tuned = make();
  const q = "model.layers.0.self_attn.q_proj.lora";
  assertThrows(
    () => atRank(tuned, 5),
    RangeError,
    `Cannot set rank 5: the ranks of the adapter at ${q} are 1 to 4`,
  );
  assertThrows(
    () => truncate(tuned, 0),
    RangeError,
    `Cannot cut to rank 0: the ranks of the adapter at ${q} are 1 to 4`,
  );
  assertThrows(
    () => atRank(params, 1),
    TreeError,
    "Cannot set rank 1: no layer of the tree has an adapter",
  );
  assertThrows(
    () => make({ ranks: [1, 2] }),
    RangeError,
    "Cannot train the ranks [1, 2]: they must be integers that ascend from 1 or more to the rank, 4",
  );
  assertThrows(
    () => make({ ranks: [2, 1, 4] }),
    RangeError,
    "Cannot train the ranks [2, 1, 4]: they must be integers that ascend from 1 or more to the rank, 4",
  );
  assertThrows(
    () => make({ mode: "half" as "full" }),
    RangeError,
    'Cannot train ranks in mode "half": there are "frozen" and "full"',
  );
  assertThrows(
    () => drawRank(random.key(0), { ranks: [] }),
    RangeError,
    "Cannot draw a rank: there are no ranks to draw from",
  );
  assertThrows(
    () => drawRank(random.key(0), { ranks: [1], p: 1 }),
    RangeError,
    "Cannot draw a rank with p 1: it must be above 0 and below 1",
  );
  const mixed = {
    one: madeUp(1),
    two: { lora: { a: madeUp(1).lora.b, b: madeUp(1).lora.a } },
  };
  assertThrows(
    () =>
      rankwise((learningRate) => sgd({ learningRate }), {
        learningRate: 1,
        ranks: [1],
      }).init(mixed),
    RangeError,
    "Cannot update by rank: one.lora.a has rank 4, and two.lora.a 2",
  );
});
