/**
 * LoRA with nothing hidden, on the model that comes with Cotan: `deno run --allow-read examples/lora_by_hand.ts`.
 *
 * @module
 */

import {
  init,
  jit,
  random,
  type Tensor,
  tensor,
  type Tree,
  tree,
  valueAndGrad,
} from "cotan";
import { isAdapter, lora, report } from "cotan/lora";
import {
  adamw,
  type AdamWState,
  applyUpdates,
  crossEntropy,
  fromPretrained,
  generate,
  shuffledBatches,
  toRows,
} from "cotan/nn";

const RECIPE = "Take two eggs, a cup of flour and a pinch of salt. Stir well. ";

if (import.meta.main) {
  const { name } = await init();
  const folder = new URL("assets/moby-1m", import.meta.url);
  const { model, params, tokenizer } = await fromPretrained(folder, {
    tokenizer: true,
  });
  const rows = toRows([{ text: RECIPE.repeat(40) }], tokenizer, { seq: 32 });

  const tuned = lora(params, {
    targets: ["q_proj", "v_proj"],
    rank: 4,
    alpha: 8,
    key: random.key(1),
  });
  console.log(`on ${name}\n${await report(tuned)}\n`);
  const [adapters, frozen] = tree.partition(tuned, isAdapter);

  const loss = (adapters: Tree, ids: Tensor, labels: Tensor) => {
    const logits = model.apply(tree.merge(adapters, frozen), ids);
    return crossEntropy(logits.reshape([labels.shape[0]!, -1]), labels);
  };
  const optimizer = adamw({ learningRate: 0.01, weightDecay: 0 });
  using step = jit((
    adapters: Tree,
    s: AdamWState,
    ids: Tensor,
    labels: Tensor,
  ) => {
    const { value, grads } = valueAndGrad(loss)(adapters, ids, labels);
    const { updates, state } = optimizer.update(grads, s, adapters);
    return { trainable: applyUpdates(adapters, updates), state, value };
  }, { donate: [0, 1] });

  let now = { trainable: adapters, state: optimizer.init(adapters) };
  let count = 0;
  for (const batch of shuffledBatches(rows, { batch: 4, seed: 1 }).take(60)) {
    using ids = tensor(batch.ids, { shape: [4, 32] });
    using labels = tensor(batch.labels);
    const { value, ...next } = step(now.trainable, now.state, ids, labels);
    now = next;
    if (++count % 10 === 0) {
      console.log(`step ${count}: loss ${(await value.item()).toFixed(3)}`);
    }
    value.dispose();
  }

  const prompt = tokenizer.encode("Take two");
  const ids = [...prompt];
  const learned = tree.merge(now.trainable, frozen);
  for await (
    const id of generate(model, learned, prompt, { maxNewTokens: 32 })
  ) {
    ids.push(id);
  }
  console.log(`\n${tokenizer.decode(ids)}`);
}
