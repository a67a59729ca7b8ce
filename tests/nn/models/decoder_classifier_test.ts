import { assertEquals, assertThrows } from "@std/assert";
import { FormatError, grad, random, tree } from "cotan";
import {
  gpt2ForSequenceClassification,
  isCausal,
  llamaForSequenceClassification,
  modelFromConfig,
} from "cotan/nn";
import { assertClose, ids, useOracle } from "../support.ts";

Deno.test.beforeAll(useOracle);

const config = {
  vocab_size: 11,
  n_positions: 16,
  n_embd: 8,
  n_layer: 2,
  n_head: 2,
  num_labels: 3,
  initializer_range: 0.5,
};
const model = gpt2ForSequenceClassification(config);
type Params = ReturnType<typeof model.init>;
const tokens = [[1, 5, 2, 7, 3], [4, 4, 9, 0, 0], [0, 0, 4, 6, 8]];
const mask = [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 1, 1, 1]];

/** Logits at a place of each row, from the last hidden state. */
function logitsAt(
  params: Params,
  places: number[],
  mask?: number[][],
): Promise<ArrayLike<number>> {
  const last = model.hidden(params, ids(tokens), {
    mask: mask ? ids(mask) : null,
  }).at(-1)!;
  const all = last.matmul(params.score.weight.transpose()); // [B, T, L]
  const at = ids(places.map((t) => [t])).unsqueeze(-1).expand([3, 1, 3]);
  return all.gather(at, { axis: 1 }).data();
}

Deno.test("the classifier reads the last token that the mask says is real", async () => {
  const params = model.init(random.key(1));
  assertEquals(model.shapes["score.weight"], [3, 8]);
  assertEquals("score.bias" in model.shapes, false);
  assertEquals(isCausal(model), false);
  const logits = model.apply(params, ids(tokens), { mask: ids(mask) });
  const expected = await logitsAt(params, [4, 2, 4], mask);
  await assertClose(logits, expected, { shape: [3, 3] });
  const bool = model.apply(params, ids(tokens), { mask: ids(mask).ne(0) });
  await assertClose(bool, expected);
});

Deno.test("without a mask it reads the last token that is not pad_token_id, or the last", async () => {
  const params = model.init(random.key(1));
  const last = model.apply(params, ids(tokens));
  await assertClose(last, await logitsAt(params, [4, 4, 4]));
  const padded = gpt2ForSequenceClassification({ ...config, pad_token_id: 0 });
  const logits = padded.apply(params, ids(tokens));
  await assertClose(logits, await logitsAt(params, [4, 2, 4]));
});

Deno.test("every parameter that comes before the head has a gradient", async () => {
  const params = model.init(random.key(1));
  const slope = grad((p: Params) => model.apply(p, ids(tokens)).square().sum())(
    params,
  );
  for (const { path, leaf } of tree.leaves(slope)) {
    const data = await leaf.data();
    assertEquals([path, data.some((v) => v !== 0)], [path, true]);
  }
});

Deno.test("the kin of Llama classify too, with as many labels as there are names, or two", () => {
  const llama = {
    vocab_size: 11,
    hidden_size: 8,
    intermediate_size: 12,
    num_hidden_layers: 1,
    num_attention_heads: 2,
  };
  const two = llamaForSequenceClassification(llama);
  assertEquals(two.shapes["score.weight"], [2, 8]);
  assertEquals(two.config.num_labels, 2);
  assertEquals("lm_head.weight" in two.shapes, false);
  const four = modelFromConfig({
    ...llama,
    architectures: ["Qwen2ForSequenceClassification"],
    id2label: { 0: "a", 1: "b", 2: "c", 3: "d" },
  });
  assertEquals(four.shapes["score.weight"], [4, 8]);
  assertEquals(four.shapes["model.layers.0.self_attn.q_proj.bias"], [8]);
  assertThrows(
    () => llamaForSequenceClassification({ ...llama, problem_type: "ranking" }),
    FormatError,
    'Cannot build a Llama model: problem_type is "ranking", and only "regression" or "single_label_classification" or "multi_label_classification" is supported',
  );
});
