/**
 * No public loop leaks, and a training step comes to allocate nothing.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import {
  grad,
  hvp,
  jit,
  jvp,
  memory,
  ones,
  random,
  scope,
  type Tensor,
  tensor,
  type Tree,
  tree,
  valueAndGrad,
  vjp,
} from "cotan";
import { dropAdapters, isAdapter, lora, mergeAdapters } from "cotan/lora";
import {
  adamw,
  applyUpdates,
  chain,
  clipByGlobalNorm,
  crossEntropy,
  generate,
  llama,
  type Rows,
  shuffledBatches,
  toRows,
} from "cotan/nn";
import { assertNoLeaks, checkGrads } from "cotan/testing";
import { eachBackend } from "./support/backends.ts";

const model = llama({
  vocab_size: 13,
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  max_position_embeddings: 64,
});

/** Frees the tensors of a tree that are not in another. */
function free(t: Tree, except: Tree = null): void {
  const kept = new Set(tree.leaves(except).map(({ leaf }) => leaf));
  for (const { leaf } of tree.leaves(t)) if (!kept.has(leaf)) leaf.dispose();
}

function init(): Tree {
  return scope(() => model.init(random.key(1)));
}

const optimizer = chain(clipByGlobalNorm(1), adamw({ learningRate: 0.01 }));

function loss(params: Tree, ids: Tensor, labels: Tensor): Tensor {
  const logits = model.apply(params as never, ids);
  return crossEntropy(logits.reshape([-1, 13]), labels);
}

type State = ReturnType<typeof optimizer.init>;

/** A training step, its state donated. */
function compileStep() {
  return jit((params: Tree, s: State, ids: Tensor, labels: Tensor) => {
    const { value, grads } = valueAndGrad(loss)(params, ids, labels);
    const { updates, state } = optimizer.update(grads, s, params);
    return { params: applyUpdates(params, updates), state, value };
  }, { donate: [0, 1] });
}

function someRows(): Rows {
  const encode = (text: string) => [...text].map((c) => c.charCodeAt(0) % 13);
  const text = "some words to learn by heart ".repeat(20);
  return toRows([{ text }], { encode, bosId: null, eosId: 0 }, {
    seq: 8,
  });
}

eachBackend(
  "a training loop over batches of data leaves nothing",
  () =>
    assertNoLeaks(async () => {
      using step = compileStep();
      let params = init();
      let state = optimizer.init(params);
      const rows = someRows();
      for (
        const batch of shuffledBatches(rows, { batch: 2, seed: 1 }).take(4)
      ) {
        using ids = tensor(batch.ids, { shape: [2, 8] });
        using labels = tensor(batch.labels);
        const out = step(params, state, ids, labels);
        ({ params, state } = out);
        using value = out.value;
        await value.item();
      }
      free([params, state as Tree]);
    }),
);

eachBackend(
  "an optimizer outside of jit leaves nothing in a scope",
  () =>
    assertNoLeaks(() => {
      let params: Tree = { w: ones([3, 2]) };
      let state = optimizer.init(params);
      for (let i = 0; i < 3; i++) {
        const next = scope(() => {
          const grads = grad((p: Tree) =>
            (p as { w: Tensor }).w.square().sum()
          )(params);
          const { updates, state: s } = optimizer.update(grads, state, params);
          return { params: applyUpdates(params, updates), state: s };
        });
        free([params, state as Tree]);
        ({ params, state } = next);
      }
      free([params, state as Tree]);
    }),
);

eachBackend(
  "generation leaves nothing, also where it is left early",
  () =>
    assertNoLeaks(async () => {
      const params = init();
      using key = random.key(3);
      const draws = { maxNewTokens: 4, temperature: 1, key };
      await Array.fromAsync(generate(model, params as never, [1, 2], draws));
      for await (const _ of generate(model, params as never, [1], draws)) break;
      free(params);
    }),
);

eachBackend(
  "adapters are made, merged and dropped without a leak",
  () =>
    assertNoLeaks(() => {
      const params = init();
      using key = random.key(2);
      const tuned = lora(params, {
        targets: ["q_proj", "v_proj"],
        rank: 2,
        alpha: 4,
        key,
      });
      const [adapters, frozen] = tree.partition(tuned, isAdapter);
      assertEquals(tree.leaves(tree.merge(adapters, frozen)).length > 4, true);
      const merged = mergeAdapters(tuned);
      free(merged, params);
      assertEquals(tree.count(dropAdapters(tuned)), tree.count(params));
      free(tuned);
    }),
);

eachBackend("transformations leave nothing", () =>
  assertNoLeaks(() => {
    const f = (x: Tensor): Tensor => x.tanh().mul(x).sum();
    using x = ones([5]);
    using swap = jit((a: Tensor, b: Tensor) => [b.add(1), a] as never, {
      donate: [0, 1],
    });
    for (let i = 0; i < 3; i++) {
      grad(f)(x).dispose();
      const { out, pullback } = vjp(f, x);
      const [ct] = scope(() => pullback(ones([])));
      const { out: value, tangent } = jvp(f, [x], [x]);
      const [product] = hvp(f, [x], [x]);
      const swapped = swap(ones([5]), ones([2])) as unknown as Tensor[];
      free([out, ct, value, tangent, product, swapped]);
    }
  }));

eachBackend(
  "checkGrads leaves nothing on the backend it was called on",
  () =>
    assertNoLeaks(async () => {
      using x = ones([3]);
      await checkGrads((x, y) => x.mul(y).sin(), [x, [1, 2, 3]], { order: 2 });
    }),
);

eachBackend(
  "nothing is allocated between the second step of training and the 200th",
  async () => {
    using step = compileStep();
    let params = init();
    let state = optimizer.init(params);
    using ids = tensor(Int32Array.from({ length: 16 }, (_, i) => i % 13), {
      shape: [2, 8],
    });
    using labels = ids.add(1).reshape([-1]);
    let second: ReturnType<typeof memory> | undefined;
    const losses: number[] = [];
    for (let i = 1; i <= 200; i++) {
      const out = step(params, state, ids, labels);
      ({ params, state } = out);
      losses.push(await out.value.item());
      out.value.dispose();
      if (i === 2) second = memory();
    }
    assertEquals(memory(), second);
    assertEquals(losses.at(-1)! < losses[0]! / 2, true);
  },
);
