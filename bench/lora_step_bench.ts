/**
 * One LoRA training step of a small Llama on each backend: 8 rows of 128 tokens, rank 8 on q and v, AdamW.
 *
 * @module
 */

import { jit, random, type Tensor, tensor, tree, valueAndGrad } from "cotan";
import { isAdapter, lora } from "cotan/lora";
import { adamw, applyUpdates, crossEntropy, llama } from "cotan/nn";
import { availableBackends, benchOn, settle } from "./backends.ts";

const V = 512, B = 8, T = 128;

/** The shape of the model that `deno task finetune` adapts without flags, and of stories260K. */
const configs = {
  "1M": { hidden_size: 144, intermediate_size: 384, num_hidden_layers: 4 },
  "260K": { hidden_size: 64, intermediate_size: 172, num_hidden_layers: 5 },
};

const backends = await availableBackends();
for (const [name, sizes] of Object.entries(configs)) {
  const model = llama({
    ...sizes,
    vocab_size: V,
    num_attention_heads: 8,
    num_key_value_heads: 4,
    max_position_embeddings: T,
    tie_word_embeddings: true,
  });
  for (const backend of backends) {
    benchOn(backend, `LoRA step ${name}`, `${B * T} tokens`, () => {
      const tuned = lora(model.init(random.key(0)), {
        targets: ["q_proj", "v_proj"],
        rank: 8,
        alpha: 16,
        key: random.key(1),
      });
      const optimizer = adamw({ learningRate: 1e-3 });
      let [trainable, frozen] = tree.partition(tuned, isAdapter);
      let state = optimizer.init(trainable);
      const loss = (t: typeof tuned, f: typeof tuned, x: Tensor, y: Tensor) =>
        crossEntropy(model.apply(tree.merge(t, f), x).reshape([-1, V]), y);
      const step = jit((
        t: typeof trainable,
        s: typeof state,
        f: typeof frozen,
        x: Tensor,
        y: Tensor,
      ) => {
        const { value, grads } = valueAndGrad(loss)(t, f, x, y);
        const { updates, state } = optimizer.update(grads, s, t);
        return { trainable: applyUpdates(t, updates), state, value };
      }, { donate: [0, 1] });
      const ids = Int32Array.from({ length: B * T }, (_, i) => i * 31 % V);
      const x = tensor(ids, { shape: [B, T] });
      const y = tensor(ids.map((id) => (id + 1) % V));
      return Promise.resolve(async () => {
        const out = step(trainable, state, frozen, x, y);
        ({ trainable, state } = out);
        await settle(out.value);
      });
    });
  }
}
