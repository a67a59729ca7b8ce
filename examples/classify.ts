/**
 * Trains a small BERT to tell praise from blame, "not" included: `deno run examples/classify.ts`.
 *
 * @module
 */

import { init, jit, random, type Tensor, tensor, valueAndGrad } from "cotan";
import {
  adamw,
  applyUpdates,
  bertForSequenceClassification,
  classificationLoss,
} from "cotan/nn";

const NOUNS = ["soup", "film", "room", "book", "song", "walk", "game", "bread"];
const ADVERBS = ["", "not", "very", "not very", "really", "not really"];
const GOOD = ["good", "fine", "lovely", "great", "superb"];
const BAD = ["bad", "awful", "boring", "poor", "dreadful"];

/** Sentences, each with 1 for praise and 0 for blame. */
function sentences(): { text: string; label: number }[] {
  return NOUNS.flatMap((noun) =>
    ADVERBS.flatMap((adverb) =>
      [...GOOD, ...BAD].map((adjective) => ({
        text: `the ${noun} was ${adverb} ${adjective}`,
        label: Number(GOOD.includes(adjective) !== adverb.startsWith("not")),
      }))
    )
  );
}

const WORDS = ["[PAD]", "[CLS]", "[SEP]"].concat([
  ...new Set(sentences().flatMap(({ text }) => text.split(/\s+/))),
]);

/** Sentences as rows of ids, padded to one length, with the mask of what is no padding. */
function encode(
  texts: readonly string[],
): { readonly ids: Tensor; readonly mask: Tensor } {
  const rows = texts.map((text) =>
    ["[CLS]", ...text.split(/\s+/), "[SEP]"].map((word) => WORDS.indexOf(word))
  );
  const length = Math.max(...rows.map((row) => row.length));
  const padded = rows.map((row) => [
    ...row,
    ...new Array<number>(length - row.length).fill(0),
  ]);
  const ids = tensor(padded, { dtype: "i32" });
  return { ids, mask: ids.ne(0) };
}

if (import.meta.main) {
  const { name } = await init();
  console.log(`on ${name}`);

  const all = sentences();
  // One sentence in seven is never seen in training.
  const held = all.filter((_, i) => i % 7 === 0);
  const seen = all.filter((_, i) => i % 7 !== 0);
  const { ids, mask } = encode(seen.map(({ text }) => text));
  const labels = tensor(Int32Array.from(seen, ({ label }) => label));

  const model = bertForSequenceClassification({
    vocab_size: WORDS.length,
    hidden_size: 32,
    intermediate_size: 64,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    max_position_embeddings: 16,
    num_labels: 2,
  });
  let params = model.init(random.key(0));
  const optimizer = adamw({ learningRate: 3e-3 });
  let state = optimizer.init(params);

  type Params = typeof params;
  const loss = (params: Params, ids: Tensor, mask: Tensor, labels: Tensor) =>
    classificationLoss(model.apply(params, ids, { mask }), labels);

  // A batch of 32 sentences is drawn inside the step.
  using step = jit((params: Params, s: typeof state, key: Tensor) => {
    const rows = random.randint(key, [32], { high: seen.length });
    const batch = [ids, mask, labels].map((x) => x.take(rows, { axis: 0 }));
    const { value, grads } = valueAndGrad(loss)(
      params,
      ...batch as [Tensor, Tensor, Tensor],
    );
    const { updates, state } = optimizer.update(grads, s, params);
    return { params: applyUpdates(params, updates), state, value };
  }, { donate: [0, 1] });

  for (let i = 1; i <= 150; i++) {
    using key = random.key(i);
    const out = step(params, state, key);
    ({ params, state } = out);
    using value = out.value;
    if (i % 25 === 0) {
      console.log(`step ${i}: loss ${(await value.item()).toFixed(4)}`);
    }
  }

  const test = encode(held.map(({ text }) => text));
  const found = await model.apply(params, test.ids, { mask: test.mask })
    .argmax({ axis: -1 }).data();
  const right = held.filter(({ label }, i) => label === found[i]).length;
  console.log(`${right} of ${held.length} new sentences are right`);
}
