import { assertEquals, assertThrows } from "@std/assert";
import { random, type Tensor, zeros } from "cotan";
import {
  type BertBody,
  bertModel,
  distilbert,
  type DistilbertBody,
  distilbertForSequenceClassification,
  distilbertForTokenClassification,
  distilbertModel,
  layerNorm,
  linear,
  modelFromConfig,
} from "cotan/nn";
import { assertClose, ids, useOracle } from "../support.ts";
import { bertConfig, distilbertConfig, paramsOf } from "./encoders.ts";

Deno.test.beforeAll(useOracle);

const inputs = () => ({
  tokens: ids([[2, 5, 3, 7, 4], [4, 4, 9, 6, 1]]),
  mask: ids([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]),
});

/** The same weights as a BERT's: its only segment adds nothing. */
function asBert({ embeddings, transformer }: DistilbertBody): BertBody {
  return {
    embeddings: {
      ...embeddings,
      token_type_embeddings: { weight: zeros([1, 8]) },
    },
    encoder: {
      layer: transformer.layer.map((p) => ({
        attention: {
          self: {
            query: p.attention.q_lin,
            key: p.attention.k_lin,
            value: p.attention.v_lin,
          },
          output: { dense: p.attention.out_lin, LayerNorm: p.sa_layer_norm },
        },
        intermediate: { dense: p.ffn.lin1 },
        output: { dense: p.ffn.lin2, LayerNorm: p.output_layer_norm },
      })),
    },
  };
}

/** Hidden states of BERT with the weights of a DistilBERT. */
function bertStates(body: DistilbertBody, changes: object = {}): Tensor[] {
  const model = bertModel({ ...bertConfig, type_vocab_size: 1, ...changes });
  const { tokens, mask } = inputs();
  const unread = { dense: { weight: zeros([8, 8]) } };
  return model.hidden(
    { bert: { ...asBert(body), pooler: unread } },
    tokens,
    { mask },
  );
}

Deno.test("DistilBERT's parameters have Hugging Face's names", () => {
  const { shapes } = distilbert({ ...distilbertConfig, n_layers: 1 });
  const at = "distilbert.transformer.layer.0";
  assertEquals(shapes, {
    "distilbert.embeddings.word_embeddings.weight": [11, 8],
    "distilbert.embeddings.position_embeddings.weight": [12, 8],
    "distilbert.embeddings.LayerNorm.weight": [8],
    "distilbert.embeddings.LayerNorm.bias": [8],
    [`${at}.attention.q_lin.weight`]: [8, 8],
    [`${at}.attention.q_lin.bias`]: [8],
    [`${at}.attention.k_lin.weight`]: [8, 8],
    [`${at}.attention.k_lin.bias`]: [8],
    [`${at}.attention.v_lin.weight`]: [8, 8],
    [`${at}.attention.v_lin.bias`]: [8],
    [`${at}.attention.out_lin.weight`]: [8, 8],
    [`${at}.attention.out_lin.bias`]: [8],
    [`${at}.sa_layer_norm.weight`]: [8],
    [`${at}.sa_layer_norm.bias`]: [8],
    [`${at}.ffn.lin1.weight`]: [12, 8],
    [`${at}.ffn.lin1.bias`]: [12],
    [`${at}.ffn.lin2.weight`]: [8, 12],
    [`${at}.ffn.lin2.bias`]: [8],
    [`${at}.output_layer_norm.weight`]: [8],
    [`${at}.output_layer_norm.bias`]: [8],
    "vocab_transform.weight": [8, 8],
    "vocab_transform.bias": [8],
    "vocab_layer_norm.weight": [8],
    "vocab_layer_norm.bias": [8],
    "vocab_projector.bias": [11],
  });
  const classes = {
    distilbertForSequenceClassification,
    distilbertForTokenClassification,
    distilbertModel,
  };
  const own = Object.values(classes).map((build) =>
    Object.keys(build(distilbertConfig).shapes).filter((path) =>
      !path.startsWith("distilbert.")
    )
  );
  assertEquals(own, [
    [
      "pre_classifier.weight",
      "pre_classifier.bias",
      "classifier.weight",
      "classifier.bias",
    ],
    ["classifier.weight", "classifier.bias"],
    [],
  ]);
});

Deno.test("DistilBERT is BERT without segments", async () => {
  const { tokens, mask } = inputs();
  for (const activation of ["gelu", "relu"]) {
    const model = distilbertModel({ ...distilbertConfig, activation });
    const params = paramsOf(model);
    const states = model.hidden(params, tokens, { mask });
    const expected = bertStates(params.distilbert, { hidden_act: activation });
    assertEquals(states.length, 3);
    for (const [i, state] of states.entries()) {
      await assertClose(state, await expected[i]!.data(), { within: 1e-14 });
    }
    const last = model.apply(params, tokens, { mask });
    await assertClose(last, await expected[2]!.data(), { within: 1e-14 });
  }
});

Deno.test("the heads read the last hidden state", async () => {
  const { tokens, mask } = inputs();
  const masked = distilbert({ ...distilbertConfig, activation: "relu" });
  const p = paramsOf(masked);
  const states = bertStates(p.distilbert, { hidden_act: "relu" }).at(-1)!;
  const inner = linear(p.vocab_transform, states).relu();
  const normed = layerNorm(p.vocab_layer_norm, inner, { eps: 1e-12 });
  const { weight } = p.distilbert.embeddings.word_embeddings;
  const scores = normed.matmul(weight.transpose()).add(p.vocab_projector.bias);
  const logits = masked.apply(p, tokens, { mask });
  await assertClose(logits, await scores.data(), { shape: [2, 5, 11] });

  const sequences = distilbertForSequenceClassification(distilbertConfig);
  const q = paramsOf(sequences);
  const first = bertStates(q.distilbert).at(-1)!.slice([null, [0, 1]])
    .reshape([2, 8]);
  const pre = linear(q.pre_classifier, first);
  const classes = linear(q.classifier, pre.maximum(0));
  const found = sequences.apply(q, tokens, { mask });
  await assertClose(found, await classes.data(), { shape: [2, 3] });

  const each = distilbertForTokenClassification(distilbertConfig);
  const r = paramsOf(each);
  const labels = linear(r.classifier, bertStates(r.distilbert).at(-1)!);
  await assertClose(each.apply(r, tokens, { mask }), await labels.data());
});

Deno.test("token types are an error", () => {
  const model = distilbertModel(distilbertConfig);
  const params = model.init(random.key(0));
  const { tokens } = inputs();
  const tokenTypes = ids([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0]]);
  const error = assertThrows(
    () => model.apply(params, tokens, { tokenTypes }),
    TypeError,
  );
  assertEquals(
    error.message,
    "Cannot apply the model with tokenTypes: a DistilBERT does not tell segments apart",
  );
});

Deno.test("the type alone stands for the masked language model", () => {
  const { shapes } = modelFromConfig({
    ...distilbertConfig,
    model_type: "distilbert",
  });
  assertEquals(shapes["vocab_projector.bias"], [11]);
});
