import { assert, assertEquals, assertThrows } from "@std/assert";
import { random, ShapeError } from "cotan";
import {
  bertModel,
  roberta,
  robertaForSequenceClassification,
  robertaForTokenClassification,
  robertaModel,
} from "cotan/nn";
import { assertClose, ids, useOracle } from "../support.ts";
import { bertConfig, paramsOf } from "./encoders.ts";

Deno.test.beforeAll(useOracle);

Deno.test("RoBERTa's heads have Hugging Face's names", () => {
  const own = ({ shapes }: { shapes: object }) =>
    Object.entries(shapes).filter(([path]) =>
      !/^roberta\.(embeddings|encoder)\./.test(path)
    );
  assertEquals(own(roberta(bertConfig)), [
    ["lm_head.bias", [11]],
    ["lm_head.dense.weight", [8, 8]],
    ["lm_head.dense.bias", [8]],
    ["lm_head.layer_norm.weight", [8]],
    ["lm_head.layer_norm.bias", [8]],
  ]);
  assertEquals(own(robertaForSequenceClassification(bertConfig)), [
    ["classifier.dense.weight", [8, 8]],
    ["classifier.dense.bias", [8]],
    ["classifier.out_proj.weight", [3, 8]],
    ["classifier.out_proj.bias", [3]],
  ]);
  assertEquals(own(robertaForTokenClassification(bertConfig)), [
    ["classifier.weight", [3, 8]],
    ["classifier.bias", [3]],
  ]);
  assertEquals(own(robertaModel(bertConfig)), [
    ["roberta.pooler.dense.weight", [8, 8]],
    ["roberta.pooler.dense.bias", [8]],
  ]);
});

Deno.test("positions begin behind pad_token_id and leave padding out, on the left too", async () => {
  for (const pad_token_id of [1, 3]) {
    const config = { ...bertConfig, pad_token_id };
    const model = robertaModel(config), params = paramsOf(model);
    // BERT that reads the table of positions from its row pad_token_id + 1 on.
    const { embeddings, ...rest } = params.roberta;
    const { weight } = embeddings.position_embeddings;
    const rows = weight.slice([[pad_token_id + 1, 12]]);
    const position_embeddings = { weight: rows };
    const bare = bertModel({
      ...bertConfig,
      max_position_embeddings: 11 - pad_token_id,
    });
    const expected = bare.apply({
      bert: { ...rest, embeddings: { ...embeddings, position_embeddings } },
    }, ids([[2, 5, 2, 7]]));
    const p = pad_token_id;
    for (const [before, after] of [[0, 0], [0, 3], [2, 0], [1, 2]] as const) {
      const row = [
        ...new Array(before).fill(p),
        ...[2, 5, 2, 7],
        ...new Array(after).fill(p),
      ];
      const mask = ids([row.map((id) => id === p ? 0 : 1)]);
      const actual = model.apply(params, ids([row]), { mask })
        .slice([null, [before, before + 4]]);
      await assertClose(actual, await expected.data());
    }
  }
});

Deno.test("padding has the position pad_token_id, wherever it is", async () => {
  const model = robertaModel(bertConfig), params = paramsOf(model);
  const first = (rows: number[][]) => model.hidden(params, ids(rows))[0]!;
  const alone = await first([[1]]).data();
  const among = first([[2, 5, 1, 7]]).slice([null, [2, 3]]);
  await assertClose(among, alone, { within: 0 });
});

Deno.test("the head of masked language modelling has gelu, whatever hidden_act says", async () => {
  const tokens = ids([[2, 5, 3]]);
  const model = roberta({ ...bertConfig, hidden_act: "relu" });
  const params = paramsOf(model), { lm_head: p } = params;
  const last = model.hidden(params, tokens).at(-1)!;
  const inner = last.matmul(p.dense.weight.transpose()).add(p.dense.bias!)
    .gelu();
  const centered = inner.sub(inner.mean({ axis: -1, keepDims: true }));
  const variance = inner.variance({ axis: -1, keepDims: true });
  const normed = centered.div(variance.add(1e-12).sqrt())
    .mul(p.layer_norm.weight).add(p.layer_norm.bias!);
  const { weight } = params.roberta.embeddings.word_embeddings;
  const expected = normed.matmul(weight.transpose()).add(p.bias);
  await assertClose(model.apply(params, tokens), await expected.data());
});

Deno.test("a sequence may have as many tokens as there are positions behind pad_token_id", () => {
  const model = robertaModel(bertConfig);
  const params = model.init(random.key(0));
  const of = (length: number) => ids([new Array(length).fill(2)]);
  assertEquals(model.apply(params, of(10)).shape, [1, 10, 8]);
  const error = assertThrows(
    () => model.apply(params, of(11)),
    ShapeError,
  );
  assertEquals(
    error.message,
    "Cannot apply the model to i32[1, 11]: 11 positions exceed max_position_embeddings - pad_token_id - 1 = 10",
  );
});

Deno.test("token types count where there are several", async () => {
  const model = robertaModel(bertConfig), params = paramsOf(model);
  const tokenTypes = ids([[0, 1, 1]]);
  const a = await model.apply(params, ids([[2, 5, 3]])).data();
  const b = await model.apply(params, ids([[2, 5, 3]]), { tokenTypes }).data();
  assert(Math.abs(a[0]! - b[0]!) > 1e-3);
});
