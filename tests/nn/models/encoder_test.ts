/**
 * What holds of every encoder, whatever its family and head.
 *
 * @module
 */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  FormatError,
  grad,
  jit,
  memory,
  random,
  ShapeError,
  tensor,
  tree,
  TreeError,
  zeros,
} from "cotan";
import { isCausal, type Model, modelFromConfig } from "cotan/nn";
import { assertClose, ids, useOracle } from "../support.ts";
import {
  bertConfig,
  distilbertConfig,
  encoderOf,
  heads,
  paramsOf,
} from "./encoders.ts";

Deno.test.beforeAll(useOracle);

const families = ["Bert", "Roberta", "DistilBert"] as const;
const tokens = [[2, 5, 3, 7, 4], [4, 4, 9, 6, 10]];

/** Registers a test for each model. */
function each(
  name: string,
  f: (model: Model, head: typeof heads[number]) => void | Promise<void>,
): void {
  for (const family of families) {
    for (const head of heads) {
      Deno.test(`${name} (${family}${head})`, () =>
        f(encoderOf(family, head), head));
    }
  }
}

/** Rows with padding behind them, id 1, and the mask that tells it. */
function padded(count: number): { rows: number[][]; mask: number[][] } {
  const pad = new Array(count).fill(1), hide = new Array(count).fill(0);
  return {
    rows: tokens.map((row) => [...row, ...pad]),
    mask: tokens.map((row) => [...row.map(() => 1), ...hide]),
  };
}

each(
  "shapes are those of the parameters and of what apply gives",
  (model, head) => {
    const params = model.init(random.key(0));
    const found = tree.leaves(params).map((
      { path, leaf },
    ) => [path, leaf.shape]);
    assertEquals(Object.fromEntries(found), model.shapes);
    assertEquals(
      model.apply(params, ids(tokens)).shape,
      {
        ForMaskedLM: [2, 5, 11],
        ForSequenceClassification: [2, 3],
        ForTokenClassification: [2, 5, 3],
        Model: [2, 5, 8],
      }[head],
    );
    const hidden = model.hidden(params, ids(tokens));
    assertEquals(
      hidden.map(({ shape }) => shape),
      new Array(3).fill([2, 5, 8]),
    );
    assertEquals(isCausal(model), false);
  },
);

each(
  "padding on the right changes nothing for real tokens",
  async (model, head) => {
    const params = paramsOf(model);
    const plain = await model.apply(params, ids(tokens)).data();
    for (const count of [1, 4]) {
      const { rows, mask } = padded(count);
      const out = model.apply(params, ids(rows), { mask: ids(mask) });
      const real = head === "ForSequenceClassification"
        ? out
        : out.slice([null, [0, 5]]);
      await assertClose(real, plain);
    }
  },
);

each(
  "what a masked token is changes nothing for others",
  async (model, head) => {
    const params = paramsOf(model);
    const mask = ids([[1, 1, 0, 1, 1], [1, 1, 1, 1, 0]]);
    const other = [[2, 5, 8, 7, 4], [4, 4, 9, 6, 3]];
    const [a, b] = [tokens, other].map((rows) => {
      const out = model.apply(params, ids(rows), { mask });
      return head === "ForSequenceClassification"
        ? out
        : out.mul(mask.cast("f32").unsqueeze(-1));
    });
    await assertClose(a!, await b!.data(), { within: 0 });
  },
);

each("the rows of a batch do not see each other", async (model) => {
  const params = paramsOf(model);
  const both = model.apply(params, ids(tokens));
  const swapped = model.apply(params, ids(tokens.toReversed()));
  await assertClose(both.flip([0]), await swapped.data(), { within: 0 });
  const first = model.apply(params, ids([tokens[0]!]));
  await assertClose(both.slice([[0, 1]]), await first.data());
});

each("the order of tokens counts", async (model) => {
  const params = paramsOf(model);
  const a = await model.apply(params, ids([[2, 5, 3, 7]])).data();
  const b = await model.apply(params, ids([[2, 3, 5, 7]])).data();
  const start = a.length === 3 ? 0 : a.length / 4;
  // The first token sees the others, though it is the same.
  for (const at of [0, start]) assert(Math.abs(a[at]! - b[at]!) > 1e-3);
});

each(
  "every parameter has a gradient but biases of keys, and a pooler that nothing reads",
  async (model, head) => {
    const params = paramsOf(model);
    const loss = (p: tree.Tree) => model.apply(p, ids(tokens)).square().mean();
    using slope = jit((p: tree.Tree) => grad(loss)(p));
    for (const { path, leaf } of tree.leaves(slope(params))) {
      const g = Array.from(await leaf.data());
      const largest = g.reduce((m, x) => Math.max(m, Math.abs(x)), 0);
      const isNone = /key\.bias|k_lin\.bias/.test(path) ||
        head === "Model" && path.includes("pooler");
      assert(isNone ? largest < 1e-12 : largest > 1e-9, `${path}: ${largest}`);
    }
  },
);

each("outside jit a pass frees what it makes but its result", (model) => {
  const params = model.init(random.key(1));
  const input = ids(tokens), mask = ids(padded(0).mask);
  const before = memory().tensors;
  model.apply(params, input, { mask }).dispose();
  for (const state of model.hidden(params, input)) state.dispose();
  assertEquals(memory().tensors, before);
});

Deno.test("a row without a real token is finite", async () => {
  const model = encoderOf("Bert", "ForTokenClassification");
  const mask = ids([[1, 1, 1, 1, 1], [0, 0, 0, 0, 0]]);
  const logits = model.apply(paramsOf(model), ids(tokens), { mask });
  assert((await logits.data()).every(Number.isFinite));
});

Deno.test("a mask may be of any dtype", async () => {
  const model = encoderOf("Bert", "ForSequenceClassification");
  const params = paramsOf(model);
  const mask = ids([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]);
  const expected = await model.apply(params, ids(tokens), { mask }).data();
  for (const dtype of ["f32", "bool", "u32"] as const) {
    const own = model.apply(params, ids(tokens), { mask: mask.cast(dtype) });
    await assertClose(own, expected, { within: 0 });
  }
});

Deno.test("CamemBERT and XLM-RoBERTa are RoBERTa under its names", () => {
  for (const head of heads) {
    const { shapes } = encoderOf("Roberta", head);
    for (const kin of ["Camembert", "XLMRoberta"]) {
      const model = modelFromConfig({
        ...bertConfig,
        architectures: [kin + head],
      });
      assertEquals(model.shapes, shapes);
    }
  }
});

Deno.test("the number of labels is num_labels, or as many as id2label has, or 2", () => {
  const { num_labels: _, ...rest } = bertConfig;
  const count = (changes: Record<string, unknown>) =>
    modelFromConfig({
      ...rest,
      ...changes,
      architectures: ["BertForSequenceClassification"],
    }).shapes["classifier.bias"];
  assertEquals(count({}), [2]);
  const id2label = { 0: "a", 1: "b", 2: "c", 3: "d" };
  assertEquals(count({ id2label }), [4]);
  assertEquals(count({ id2label, num_labels: 1 }), [1]);
});

Deno.test("inputs that do not fit are errors", () => {
  const model = encoderOf("Bert", "ForMaskedLM");
  const params = model.init(random.key(0)), input = ids(tokens);
  const cases = [
    [
      () => model.apply(params, zeros([1, 2])),
      TypeError,
      "Cannot apply the model to f32[1, 2]: ids are i32; use cast",
    ],
    [
      () => model.apply(params, tensor(Int32Array.of(1))),
      ShapeError,
      "Cannot apply the model to i32[1]: ids are [batch, time]",
    ],
    [
      () => model.apply(params, ids([new Array(13).fill(1)])),
      ShapeError,
      "Cannot apply the model to i32[1, 13]: 13 positions exceed max_position_embeddings 12",
    ],
    [
      () => model.apply(params, input, { mask: ids([[1, 1, 1, 1, 1]]) }),
      ShapeError,
      "Cannot apply the model to i32[2, 5] with mask i32[1, 5]: mask must be [2, 5]",
    ],
    [
      () => model.hidden(params, input, { tokenTypes: ids([[0], [1]]) }),
      ShapeError,
      "Cannot apply the model to i32[2, 5] with tokenTypes i32[2, 1]: tokenTypes must be [2, 5]",
    ],
    [
      () => model.apply(params, input, { tokenTypes: zeros([2, 5]) }),
      TypeError,
      "Cannot apply the model to i32[2, 5] with tokenTypes f32[2, 5]: tokenTypes are i32; use cast",
    ],
    [
      () => model.apply(params, input, { position: 2 }),
      TypeError,
      "Cannot apply the model to i32[2, 5] with a cache or a position: an encoder reads whole sequences",
    ],
    [
      () => model.apply(params, input, { cache: [] }),
      TypeError,
      "Cannot apply the model to i32[2, 5] with a cache or a position: an encoder reads whole sequences",
    ],
  ] as const;
  for (const [call, type, text] of cases) {
    assertEquals(assertThrows(call, type as ErrorConstructor).message, text);
  }
});

Deno.test("layers that are missing are an error", () => {
  for (
    const [family, field] of [
      ["Roberta", "num_hidden_layers"],
      ["DistilBert", "n_layers"],
    ] as const
  ) {
    const params = encoderOf(family, "Model", { [field]: 1 }).init(
      random.key(0),
    );
    const model = encoderOf(family, "Model");
    assertThrows(
      () => model.apply(params, ids(tokens)),
      TreeError,
      `Cannot apply the model: there are parameters of 1 layers, and ${field} is 2`,
    );
  }
});

Deno.test("a configuration says what is missing, wrong or not supported", () => {
  const { hidden_size: _, ...incomplete } = bertConfig;
  const names =
    '"gelu" or "gelu_new" or "gelu_pytorch_tanh" or "gelu_fast" or "quick_gelu" or "relu" or "silu" or "swish" or "tanh"';
  const cases: [string, Record<string, unknown>, string][] = [
    ["BertForMaskedLM", incomplete, "BERT model: config has no hidden_size"],
    [
      "BertModel",
      { ...bertConfig, position_embedding_type: "relative_key" },
      'BERT model: position_embedding_type is "relative_key", and only "absolute" is supported',
    ],
    [
      "BertModel",
      { ...bertConfig, is_decoder: true },
      "BERT model: is_decoder is true, and only false is supported",
    ],
    [
      "RobertaModel",
      { ...bertConfig, add_cross_attention: true },
      "RoBERTa model: add_cross_attention is true, and only false is supported",
    ],
    [
      "BertModel",
      { ...bertConfig, hidden_act: "mish" },
      `BERT model: hidden_act is "mish", and only ${names} is supported`,
    ],
    [
      "BertModel",
      { ...bertConfig, num_attention_heads: 3 },
      "BERT model: hidden_size 8 does not divide by num_attention_heads 3",
    ],
    [
      "BertForMaskedLM",
      { ...bertConfig, tie_word_embeddings: false },
      "BERT model: tie_word_embeddings is false, and only true is supported",
    ],
    [
      "RobertaForMaskedLM",
      { ...bertConfig, tie_word_embeddings: false },
      "RoBERTa model: tie_word_embeddings is false, and only true is supported",
    ],
    [
      "RobertaModel",
      { ...bertConfig, pad_token_id: -1 },
      "RoBERTa model: pad_token_id is -1, and must be a non-negative integer",
    ],
    [
      "RobertaModel",
      { ...bertConfig, pad_token_id: 11 },
      "RoBERTa model: max_position_embeddings 12 leaves no position behind pad_token_id 11",
    ],
    [
      "BertForSequenceClassification",
      { ...bertConfig, problem_type: "ranking" },
      'BERT model: problem_type is "ranking", and only "regression" or "single_label_classification" or "multi_label_classification" is supported',
    ],
    [
      "DistilBertForMaskedLM",
      { ...distilbertConfig, sinusoidal_pos_embds: true },
      "DistilBERT model: sinusoidal_pos_embds is true, and only false is supported",
    ],
    [
      "DistilBertForMaskedLM",
      { ...distilbertConfig, tie_word_embeddings: false },
      "DistilBERT model: tie_word_embeddings is false, and only true is supported",
    ],
    [
      "DistilBertModel",
      { ...distilbertConfig, dim: 9 },
      "DistilBERT model: dim 9 does not divide by n_heads 2",
    ],
    [
      "DistilBertModel",
      { ...distilbertConfig, activation: "elu" },
      `DistilBERT model: activation is "elu", and only ${names} is supported`,
    ],
  ];
  for (const [architecture, config, rule] of cases) {
    const error = assertThrows(
      () => modelFromConfig({ ...config, architectures: [architecture] }),
      FormatError,
    );
    assertEquals(error.message, `Cannot build a ${rule}`);
  }
});
