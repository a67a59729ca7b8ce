/**
 * Adapters in f32 on models whose weights are stored as halves.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import {
  jit,
  memory,
  random,
  scope,
  type Tensor,
  tree,
  valueAndGrad,
} from "cotan";
import {
  dropAdapters,
  isAdapter,
  lora,
  type LoraOptions,
  mergeAdapters,
} from "cotan/lora";
import { bertForSequenceClassification, type Model } from "cotan/nn";
import { eachBackend, inFloat64 } from "../support/backends.ts";
import {
  distance,
  gpt,
  model as llama,
  moved,
  outputs,
  someIds,
  typesIn,
} from "./support.ts";

const halves = ["f16", "bf16"] as const;

function stored<T extends tree.Tree>(params: T, dtype: "f16" | "bf16"): T {
  return tree.map((x) => x.cast(dtype), params);
}

const models: Record<string, Model> = {
  gpt: gpt as Model,
  llama: llama as Model,
  bert: bertForSequenceClassification({
    vocab_size: 11,
    hidden_size: 8,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    intermediate_size: 12,
    max_position_embeddings: 8,
    initializer_range: 0.5,
  }) as Model,
};

eachBackend(
  "models take weights that are stored as halves, and compute in f32",
  async () => {
    const ids = someIds();
    for (const [name, model] of Object.entries(models)) {
      for (const half of halves) {
        const params = stored(model.init(random.key(1)), half);
        const wide = tree.map((x) => x.cast("f32"), params);
        assertEquals(
          await outputs(model, params),
          await outputs(model, wide),
          name,
        );
        using run = jit((p: tree.Tree, ids: Tensor) => model.apply(p, ids));
        const [x, y] = [
          await run(params, ids).data(),
          await run(wide, ids).data(),
        ];
        assert(distance(y, x) < 1e-6, name);
      }
    }
  },
);

const variants: Partial<LoraOptions>[] = [
  {},
  { parts: { c_attn: [true, false, true] }, bias: "all" },
  { dora: true, modulesToSave: "ln_f" },
  { targets: "wpe" },
];

eachBackend(
  "adapters of halves are f32, change no bit at the start, and are merged with one rounding",
  async () => {
    for (const half of halves) {
      const params = stored(gpt.init(random.key(1)), half);
      const before = await outputs(gpt, params);
      for (const changes of variants) {
        const key = random.key(0);
        const options = { targets: "c_attn", rank: 2, alpha: 4, key };
        const fresh = lora(params, { ...options, ...changes });
        assertEquals(await outputs(gpt, fresh), before);
        const tuned = moved(fresh);
        const [own] = tree.partition(tuned, isAdapter);
        assert(typesIn(own).every((text) => / f32\[/.test(text)));
        assertEquals(dropAdapters(tuned), params);
        const merged = mergeAdapters(tuned);
        assertEquals(typesIn(merged), typesIn(params));
        const wide = mergeAdapters(
          tree.map((x) => x.dtype === half ? x.cast("f32") : x, tuned),
        );
        assertEquals(
          await Promise.all(tree.leaves(merged).map(({ leaf }) => leaf.data())),
          await Promise.all(
            tree.leaves(wide).map(({ leaf }) => leaf.cast(half).data()),
          ),
        );
      }
    }
  },
);

inFloat64(
  "an adapter is trained on a base of halves, and merging leaves nothing behind",
  async () => {
    const params = stored(gpt.init(random.key(1)), "bf16");
    const tuned = lora(params, {
      targets: "all-linear",
      rank: 2,
      alpha: 4,
      key: random.key(0),
      bias: "all",
    });
    const [trainable, frozen] = tree.partition(tuned, isAdapter);
    const ids = someIds();
    type P = typeof params;
    using step = jit((t: P, f: P) => {
      const loss = (t: P) => gpt.apply(tree.merge(t, f), ids).square().mean();
      const { value, grads } = valueAndGrad(loss)(t);
      return { t: tree.map((x, g) => x.sub(g!.mul(0.01)), t, grads), value };
    });
    const losses: number[] = [];
    let t = trainable;
    for (let i = 0; i < 4; i++) {
      const out = step(t, frozen);
      t = out.t;
      losses.push(await out.value.item());
    }
    assert(losses.at(-1)! < 0.95 * losses[0]!, String(losses));
    const before = memory().tensors;
    scope(() => {
      mergeAdapters(tree.merge(t, frozen));
      const made = memory().tensors - before;
      // Weights and biases of eight linear layers, and the biases of five norms.
      assertEquals(made, 2 * 8 + 5);
    });
    assertEquals(memory().tensors, before);
  },
);
