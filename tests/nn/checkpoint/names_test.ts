import { assertEquals } from "@std/assert";
import { headsOf, pathsOf } from "../../../nn/checkpoint/names.ts";

/** A model with these parameters. */
function model(paths: readonly string[], config = {}) {
  return { shapes: Object.fromEntries(paths.map((p) => [p, [1]])), config };
}

/** The path of each name, null for what is no parameter, undefined for what fits nowhere. */
function places(
  { shapes, config }: ReturnType<typeof model>,
  names: readonly string[],
): (string | null | undefined)[] {
  const paths = pathsOf({ shapes, config }, names, "x");
  return names.map((name) => paths.get(name));
}

const gpt2 = model(["transformer.wte.weight", "transformer.h.0.ln_1.weight"]);
const bert = model([
  "bert.embeddings.word_embeddings.weight",
  "bert.embeddings.LayerNorm.weight",
  "bert.embeddings.LayerNorm.bias",
  "cls.predictions.bias",
]);
const classifier = model([
  "bert.embeddings.LayerNorm.weight",
  "bert.pooler.dense.weight",
  "classifier.weight",
]);

Deno.test("masks, positions and frequencies are no parameters", () => {
  assertEquals(
    places(gpt2, [
      "h.0.attn.bias",
      "transformer.h.0.attn.masked_bias",
      "position_ids",
      "bert.embeddings.position_ids",
      "model.layers.0.self_attn.rotary_emb.inv_freq",
      "h.0.c_attn.bias",
      "xattn.bias",
    ]),
    [null, null, null, null, null, undefined, undefined],
  );
});

Deno.test("a tied copy is left out unless the config unties it or the model has it", () => {
  const tied = [
    "lm_head.weight",
    "lm_head.decoder.weight",
    "cls.predictions.decoder.weight",
    "cls.predictions.decoder.bias",
  ];
  assertEquals(places(gpt2, tied), [null, null, null, null]);
  assertEquals(places(gpt2, ["vocab_projector.weight", "lm_head.bias"]), [
    null,
    undefined,
  ]);
  const untied = model(["transformer.wte.weight"], {
    tie_word_embeddings: false,
  });
  assertEquals(places(untied, tied.slice(0, 1)), [undefined]);
  assertEquals(places(model(["x.y", "lm_head.weight"]), ["lm_head.weight"]), [
    "lm_head.weight",
  ]);
});

Deno.test("norms of old BERT files are renamed, and what their other heads need is left out", () => {
  assertEquals(
    places(bert, [
      "bert.embeddings.LayerNorm.gamma",
      "embeddings.LayerNorm.beta",
      "cls.seq_relationship.weight",
      "bert.pooler.dense.bias",
      "pooler.dense.bias",
      "cls.predictions.bias",
    ]),
    [
      "bert.embeddings.LayerNorm.weight",
      "bert.embeddings.LayerNorm.bias",
      null,
      null,
      null,
      "cls.predictions.bias",
    ],
  );
  assertEquals(places(classifier, ["pooler.dense.weight"]), [
    "bert.pooler.dense.weight",
  ]);
});

Deno.test("a head is what lies outside the base or in its pooler", () => {
  const isHead = headsOf(classifier);
  assertEquals(
    [
      "classifier.weight",
      "cls.predictions.bias",
      "bert.pooler.dense.weight",
      "bert.encoder.layer.9.x",
      "embeddings.y",
    ].map(isHead),
    [true, true, true, false, false],
  );
});
