import { assert, assertEquals } from "@std/assert";
import { grad, jit, random, type Tensor, tree } from "cotan";
import { lora, mergeAdapters } from "cotan/lora";
import {
  bert,
  bertForSequenceClassification,
  bertForTokenClassification,
  bertModel,
  layerNorm,
  type Linear,
  modelFromConfig,
  type Norm,
  pooler,
} from "cotan/nn";
import { assertClose, ids, useOracle } from "../support.ts";
import { bertConfig, paramsOf } from "./encoders.ts";

Deno.test.beforeAll(useOracle);

const tokens = [[2, 5, 3, 7, 4], [4, 4, 9, 6, 10]];

Deno.test("BERT's parameters have Hugging Face's names", () => {
  const { shapes } = bert({ ...bertConfig, num_hidden_layers: 1 });
  const at = "bert.encoder.layer.0";
  assertEquals(shapes, {
    "bert.embeddings.word_embeddings.weight": [11, 8],
    "bert.embeddings.position_embeddings.weight": [12, 8],
    "bert.embeddings.token_type_embeddings.weight": [2, 8],
    "bert.embeddings.LayerNorm.weight": [8],
    "bert.embeddings.LayerNorm.bias": [8],
    [`${at}.attention.self.query.weight`]: [8, 8],
    [`${at}.attention.self.query.bias`]: [8],
    [`${at}.attention.self.key.weight`]: [8, 8],
    [`${at}.attention.self.key.bias`]: [8],
    [`${at}.attention.self.value.weight`]: [8, 8],
    [`${at}.attention.self.value.bias`]: [8],
    [`${at}.attention.output.dense.weight`]: [8, 8],
    [`${at}.attention.output.dense.bias`]: [8],
    [`${at}.attention.output.LayerNorm.weight`]: [8],
    [`${at}.attention.output.LayerNorm.bias`]: [8],
    [`${at}.intermediate.dense.weight`]: [12, 8],
    [`${at}.intermediate.dense.bias`]: [12],
    [`${at}.output.dense.weight`]: [8, 12],
    [`${at}.output.dense.bias`]: [8],
    [`${at}.output.LayerNorm.weight`]: [8],
    [`${at}.output.LayerNorm.bias`]: [8],
    "cls.predictions.bias": [11],
    "cls.predictions.transform.dense.weight": [8, 8],
    "cls.predictions.transform.dense.bias": [8],
    "cls.predictions.transform.LayerNorm.weight": [8],
    "cls.predictions.transform.LayerNorm.bias": [8],
  });
});

Deno.test("the classes of BERT share a body, and differ in pooler and classifier", () => {
  const own = ({ shapes }: { shapes: object }) =>
    Object.entries(shapes).filter(([path]) =>
      !/^bert\.(embeddings|encoder)\./.test(path)
    );
  const pooled = [
    ["bert.pooler.dense.weight", [8, 8]],
    ["bert.pooler.dense.bias", [8]],
  ];
  const classifier = [["classifier.weight", [3, 8]], ["classifier.bias", [3]]];
  assertEquals(own(bertModel(bertConfig)), pooled);
  assertEquals(own(bertForTokenClassification(bertConfig)), classifier);
  assertEquals(own(bertForSequenceClassification(bertConfig)), [
    ...pooled,
    ...classifier,
  ]);
});

Deno.test("defaults are those of Hugging Face's configuration", () => {
  const { config } = bert({
    vocab_size: 11,
    hidden_size: 8,
    intermediate_size: 12,
    num_hidden_layers: 1,
    num_attention_heads: 2,
  });
  assertEquals(config.max_position_embeddings, 512);
  assertEquals(config.type_vocab_size, 2);
  assertEquals(config.hidden_act, "gelu");
  assertEquals(config.layer_norm_eps, 1e-12);
  assertEquals(config.initializer_range, 0.02);
});

Deno.test("token types count, and are 0 when absent", async () => {
  const model = bert(bertConfig), params = paramsOf(model);
  const apply = (tokenTypes?: Tensor) =>
    model.apply(params, ids(tokens), tokenTypes ? { tokenTypes } : {}).data();
  const none = ids([[0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]);
  assertEquals(await apply(none), await apply());
  const some = await apply(ids([[0, 0, 0, 0, 0], [0, 0, 0, 0, 1]]));
  const plain = await apply();
  assertEquals(some.subarray(0, 55), plain.subarray(0, 55));
  assert(Math.abs(some[55]! - plain[55]!) > 1e-3, "a segment is not seen");
});

Deno.test("there may be any number of types of tokens", async () => {
  const model = bertModel({ ...bertConfig, type_vocab_size: 4 });
  const params = paramsOf(model), types = [[3, 0, 2, 1, 1], [0, 1, 2, 3, 3]];
  const { embeddings } = params.bert;
  const { token_type_embeddings: table, LayerNorm } = embeddings;
  assertEquals(table.weight.shape, [4, 8]);
  const [found] = model.hidden(params, ids(tokens), { tokenTypes: ids(types) });
  const { word_embeddings: words, position_embeddings: positions } = embeddings;
  const sum = words.weight.take(ids(tokens))
    .add(positions.weight.slice([[0, 5]]))
    .add(table.weight.take(ids(types)));
  const expected = layerNorm(LayerNorm, sum, { eps: 1e-12 });
  await assertClose(found!, await expected.data());
});

Deno.test("adapters of any linear layer act as their merged weights", async () => {
  const model = bertForSequenceClassification(bertConfig);
  const targets = ["query", "key", "value", "dense", "classifier"];
  const tuned = lora(paramsOf(model), {
    targets,
    rank: 2,
    alpha: 4,
    key: random.key(3),
  });
  const trained = tree.map((x: Tensor) => x.add(0.1), tuned);
  const tokenTypes = ids([[0, 0, 1, 1, 1], [0, 0, 0, 0, 1]]);
  const [a, b] = [trained, mergeAdapters(trained)].map((params) =>
    model.apply(params, ids(tokens), { tokenTypes })
  );
  await assertClose(a!, await b!.data());
});

Deno.test("a sequence is classified by the pooled first token", async () => {
  const model = bertForSequenceClassification(bertConfig);
  const params = paramsOf(model);
  const hidden = bertModel(bertConfig).apply(params, ids(tokens));
  const { weight, bias } = params.classifier;
  const pooled = pooler(params.bert.pooler, hidden);
  const expected = pooled.matmul(weight.transpose()).add(bias!);
  const logits = model.apply(params, ids(tokens));
  await assertClose(logits, await expected.data(), { shape: [2, 3] });
});

Deno.test("a block is what plain loops compute", async () => {
  const model = bertModel({
    ...bertConfig,
    num_hidden_layers: 1,
    hidden_act: "relu",
    layer_norm_eps: 0.01,
  });
  const { bert: p } = paramsOf(model), { layer: [layer] } = p.encoder;
  const mask = [[1, 1, 1, 1, 1], [1, 0, 1, 1, 0]];
  const [before, after] = model.hidden(
    { bert: p },
    ids(tokens),
    { mask: ids(mask) },
  );
  type Rows = number[][];
  const affine = async (p: Linear, rows: Rows): Promise<Rows> => {
    const weight = await p.weight.toArray() as Rows;
    const bias = await p.bias!.data();
    return rows.map((row) =>
      weight.map((w, o) => w.reduce((sum, v, i) => sum + v * row[i]!, bias[o]!))
    );
  };
  const normOfSum = async (p: Norm, a: Rows, b: Rows): Promise<Rows> => {
    const [gain, shift] = [await p.weight.data(), await p.bias!.data()];
    return a.map((row, t) => {
      const x = row.map((v, c) => v + b[t]![c]!);
      const mean = x.reduce((s, v) => s + v) / 8;
      const variance = x.reduce((s, v) => s + (v - mean) ** 2, 0) / 8;
      return x.map((v, c) =>
        (v - mean) / Math.sqrt(variance + 0.01) * gain[c]! + shift[c]!
      );
    });
  };
  const { self, output } = layer!.attention;
  for (const [b, x] of (await before!.toArray() as Rows[]).entries()) {
    const [q, k, v] = [
      await affine(self.query, x),
      await affine(self.key, x),
      await affine(self.value, x),
    ];
    const seen = q.map((query) =>
      query.map((_, c) => {
        const head = c < 4 ? [0, 1, 2, 3] : [4, 5, 6, 7];
        const weights = k.map((key, s) => {
          const score = head.reduce((sum, i) => sum + query[i]! * key[i]!, 0);
          return mask[b]![s] ? Math.exp(score / 2) : 0;
        });
        const total = weights.reduce((s, w) => s + w);
        return weights.reduce((s, w, i) => s + w / total * v[i]![c]!, 0);
      })
    );
    const attended = await affine(output.dense, seen);
    const mid = await normOfSum(output.LayerNorm, x, attended);
    const inner = (await affine(layer!.intermediate.dense, mid))
      .map((row) => row.map((v) => Math.max(0, v)));
    const fed = await affine(layer!.output.dense, inner);
    const expected = await normOfSum(layer!.output.LayerNorm, mid, fed);
    await assertClose(after!.slice([[b, b + 1]]), expected.flat());
  }
});

Deno.test("another activation is another model", async () => {
  const outputs = [];
  for (const hidden_act of ["gelu", "gelu_new", "relu", "silu"]) {
    const model = bert({ ...bertConfig, hidden_act });
    const logits = model.apply(paramsOf(model), ids(tokens));
    outputs.push((await logits.data())[0]!);
  }
  assertEquals(new Set(outputs.map((x) => x.toFixed(6))).size, 4);
});

Deno.test("the type alone stands for the masked language model", () => {
  for (const model_type of ["bert", "roberta", "camembert", "xlm-roberta"]) {
    const { shapes } = modelFromConfig({ ...bertConfig, model_type });
    const head = model_type === "bert"
      ? "cls.predictions.bias"
      : "lm_head.bias";
    assertEquals(shapes[head], [11], model_type);
  }
});

Deno.test("a block, forward and backward, is at most 40 kernels", () => {
  const kernels = (num_hidden_layers: number) => {
    const model = bertForSequenceClassification({
      ...bertConfig,
      num_hidden_layers,
    });
    const params = paramsOf(model);
    const mask = ids([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]);
    using step = jit((p: typeof params, mask: Tensor) =>
      grad((p: typeof params) =>
        model.apply(p, ids(tokens), { mask }).square().sum()
      )(p)
    );
    return step.program(params, mask).kernels.length;
  };
  const [two, three] = [kernels(2), kernels(3)];
  assert(three - two <= 40, `${three - two} kernels`);
});
