import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  concat,
  grad,
  init,
  random,
  ShapeError,
  type Tensor,
  tensor,
  type Tree,
  tree,
  TreeError,
} from "../../core/mod.ts";
import {
  applyPrefix,
  bottleneck,
  type BottleneckOptions,
  embeddingPrefix,
  isAdapter,
  isBias,
  layerPrefix,
  prefixTokens,
  topLayers,
} from "../../lora/mod.ts";
import {
  bert,
  distilbert,
  gpt2,
  linear,
  llama,
  type Model,
} from "../../nn/mod.ts";

await init({ backend: "reference", precision: "f64" });

const sizes = {
  vocab_size: 13,
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 3,
  num_attention_heads: 2,
  max_position_embeddings: 16,
};
const decoder = llama(sizes);
const gpt = gpt2({
  vocab_size: 13,
  n_positions: 16,
  n_embd: 8,
  n_layer: 3,
  n_head: 2,
});
const families: Record<string, Model> = {
  llama: decoder,
  gpt2: gpt,
  bert: bert({ ...sizes, type_vocab_size: 2 }),
  distilbert: distilbert({
    vocab_size: 13,
    dim: 8,
    hidden_dim: 12,
    n_layers: 3,
    n_heads: 2,
    max_position_embeddings: 16,
  }),
};
const ids = tensor([[1, 5, 2], [7, 3, 12]], { dtype: "i32" });
const key = random.key(4);

/** Parameters large enough that a change of one shows. */
function paramsOf<P extends Tree>(model: Model<P>): P {
  return tree.map((x) => x.mul(10), model.init(random.key(1)));
}

function pathsOf(params: Tree): string[] {
  return tree.leaves(params).map(({ path }) => path);
}

async function close(x: Tensor, y: Tensor): Promise<void> {
  assertEquals(x.shape, y.shape);
  const [u, v] = [await x.data(), await y.data()];
  u.forEach((a, i) => assert(Math.abs(a - v[i]!) < 1e-10, `${a}, ${v[i]}`));
}

const withBottlenecks = (
  params: Tree,
  targets: BottleneckOptions["targets"] = "houlsby",
) => bottleneck(params, { targets, size: 2, key });

Deno.test("bottlenecks change no bit at first, in every family, and are all that isAdapter takes", async () => {
  for (const [name, model] of Object.entries(families)) {
    const params = paramsOf(model);
    for (const [targets, each] of [["houlsby", 2], ["pfeiffer", 1]] as const) {
      const tuned = withBottlenecks(params, targets);
      const [trainable] = tree.partition(tuned, isAdapter);
      assertEquals(tree.leaves(trainable).length, 3 * each * 4, name);
      assert(pathsOf(trainable).every((path) => path.includes("bottleneck")));
      assertEquals(
        await model.apply(tuned, ids).data(),
        await model.apply(params, ids).data(),
      );
    }
  }
});

Deno.test("a bottleneck adds relu(y downᵀ + bias) upᵀ + bias to what its layer gives", async () => {
  const draw = (i: number, ...shape: number[]) =>
    random.normal(random.foldIn(key, i), shape);
  const layer = { weight: draw(0, 4, 3), bias: draw(1, 4) };
  const down = { weight: draw(2, 2, 4), bias: draw(3, 2) };
  const up = { weight: draw(4, 4, 2), bias: draw(5, 4) };
  const x = draw(6, 5, 3), y = linear(layer, x);
  const expected = y.add(linear(up, linear(down, y).relu()));
  await close(linear({ ...layer, bottleneck: { down, up } }, x), expected);
});

Deno.test("bottlenecks learn: their gradients are not zero where up has moved", async () => {
  const tuned = withBottlenecks(paramsOf(gpt));
  const moved = tree.fromLeaves(
    tuned,
    tree.leaves(tuned).map(({ path, leaf }) =>
      path.includes("up.weight") ? leaf.add(0.1) : leaf
    ),
  );
  const [trainable, frozen] = tree.partition(moved, isAdapter);
  const g = grad((t: Tree) =>
    gpt.apply(tree.merge(t, frozen) as Parameters<typeof gpt.apply>[0], ids)
      .square().sum()
  )(trainable);
  for (const { path, leaf } of tree.leaves(g)) {
    assert(await leaf.abs().sum().item() > 0, path);
  }
});

Deno.test("bottlenecks that do not fit are errors", () => {
  const params = paramsOf(gpt);
  assertThrows(
    () => bottleneck(params, { targets: "houlsby", size: 0, key }),
    ShapeError,
    "Cannot adapt by bottlenecks of size 0: it must be a positive integer",
  );
  assertThrows(
    () => withBottlenecks({ fc: params.transformer.ln_f }),
    TreeError,
    'Cannot adapt by bottlenecks: "houlsby" knows none of the 1 layers; give a selector',
  );
  assertThrows(
    () => withBottlenecks(withBottlenecks(params, "**.mlp.c_proj")),
    TreeError,
    "Cannot adapt transformer.h.0.mlp.c_proj: it has a bottleneck already",
  );
});

Deno.test("virtual tokens are read where the model looks tokens up, and their gradient is theirs alone", async () => {
  const params = paramsOf(decoder);
  const tuned = embeddingPrefix(params, { length: 2, key });
  const all = prefixTokens(ids, { length: 2, vocabSize: 13 });
  assertEquals(await all.slice([[0, 1]]).toArray(), [[13, 14, 1, 5, 2]]);
  // The same by a longer table; the head stays as it was.
  const { embed_tokens } = tuned.model as typeof params.model & {
    embed_tokens: { prefix: Tensor };
  };
  const longer = {
    ...params,
    model: {
      ...params.model,
      embed_tokens: {
        weight: concat([embed_tokens.weight, embed_tokens.prefix]),
      },
    },
  };
  await close(decoder.apply(tuned, all), decoder.apply(longer, all));
  await close(decoder.apply(tuned, ids), decoder.apply(params, ids));
  const [trainable, frozen] = tree.partition(tuned, isAdapter);
  assertEquals(pathsOf(trainable), ["model.embed_tokens.prefix"]);
  const g = grad((t: typeof tuned) =>
    decoder.apply(tree.merge(t, frozen), all).square().sum()
  )(trainable);
  const rows = await tree.leaves(g)[0]!.leaf.abs().sum({ axis: 1 }).data();
  assert(rows.every((row) => row > 0));
});

Deno.test("a prefix of real tokens' keys and values is as good as the tokens", async () => {
  for (const model of [decoder, gpt]) {
    const params = paramsOf(model as Model);
    const own = model as typeof decoder;
    const before = random.randint(key, [1, 4], { high: 13 });
    const prefix = layerPrefix(own, params as never, { length: 4, key });
    const behind = applyPrefix(own, params as never, prefix, ids);
    const whole = concat([before.expand([2, 4]), ids], { axis: 1 });
    const logits = own.apply(params as never, whole);
    await close(behind, logits.slice([null, [4, 7]]));
  }
});

Deno.test("a prefix is seen where the text is masked, and every leaf of it learns", async () => {
  const params = paramsOf(decoder);
  const prefix = layerPrefix(decoder, params, { length: 2, key });
  const mask = tensor([[0, 1, 1], [1, 1, 1]]);
  const masked = applyPrefix(decoder, params, prefix, ids, { mask });
  const other = tensor([[9, 5, 2], [7, 3, 12]], { dtype: "i32" });
  const same = applyPrefix(decoder, params, prefix, other, { mask });
  await close(masked.slice([[0, 1], [1, 3]]), same.slice([[0, 1], [1, 3]]));
  const g = grad((p: typeof prefix) =>
    applyPrefix(decoder, params, p, ids, { mask }).square().sum()
  )(prefix);
  for (const { path, leaf } of tree.leaves(g)) {
    assert(await leaf.abs().sum().item() > 0, path);
  }
});

Deno.test("prefixes that do not fit are errors", () => {
  const params = paramsOf(decoder);
  assertThrows(
    () => embeddingPrefix(params, { length: 0, key }),
    RangeError,
    "Cannot add a prefix of length 0: it must be a positive integer",
  );
  assertThrows(
    () => embeddingPrefix({ fc: params.lm_head! }, { length: 1, key }),
    TreeError,
    "Cannot add a prefix: the tree has no table of token embeddings",
  );
  const once = embeddingPrefix(params, { length: 1, key });
  assertThrows(
    () => embeddingPrefix(once, { length: 1, key }),
    TreeError,
    "Cannot add a prefix: model.embed_tokens has one already",
  );
  assertThrows(
    () => prefixTokens(tensor([1]), { length: 1, vocabSize: 3 }),
    ShapeError,
    "Cannot put a prefix before f32[1]: ids are [batch, time]",
  );
});

Deno.test("the last blocks are taken with what stands behind them, in every family", () => {
  for (const [name, model] of Object.entries(families)) {
    const params = paramsOf(model);
    for (const count of [0, 1, 3]) {
      const selects = topLayers(params, count);
      const taken = pathsOf(params).filter(selects);
      const blocks = new Set(
        taken.flatMap((path) => /\.(\d+)\./.exec(path)?.[1] ?? []),
      );
      assertEquals([...blocks], ["0", "1", "2"].slice(3 - count), name);
      assert(!taken.some((path) => /embed|wte|wpe/.test(path)), name);
    }
    const behind = pathsOf(params).filter(topLayers(params, 0));
    assert(name === "llama" ? behind.length === 2 : behind.length > 0, name);
  }
});

Deno.test("counts of blocks that there are not are errors", () => {
  const params = paramsOf(decoder);
  assertThrows(
    () => topLayers(params, 4),
    RangeError,
    "Cannot take the last 4 blocks: there are 3",
  );
  assertThrows(
    () => topLayers({ w: ids }, 1),
    TreeError,
    "Cannot take the last 1 blocks: no path of the 1 leaves is that of a block, such as h.0",
  );
});

Deno.test("biases are the leaves of that name", () => {
  const params = paramsOf(gpt);
  const biases = pathsOf(params).filter(isBias);
  assertEquals(biases.length, 3 * 6 + 1);
  assert(biases.every((path) => path.endsWith(".bias")));
});
