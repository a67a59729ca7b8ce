import {
  assert,
  assertEquals,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import {
  init,
  jit,
  memory,
  random,
  scope,
  tensor,
  tree,
  TreeError,
  valueAndGrad,
  zeros,
} from "../../core/mod.ts";
import {
  dropAdapters,
  isAdapter,
  lora,
  mergeAdapters,
  scaleAdapters,
  verifyMerge,
} from "../../lora/mod.ts";
import { gpt2 } from "../../nn/models/mod.ts";
import {
  adapt,
  baseParams,
  distance,
  gpt,
  gptConfig,
  logits,
  model,
  moved,
  outputs,
  trained,
} from "./support.ts";

await init({ backend: "reference" });

const params = baseParams();
const tuned = trained(adapt(params));

Deno.test("merged weights compute what the adapters did, and leave the tree as it was", async () => {
  const before = await logits(tuned);
  assert(distance(before, await logits(params)) > 1e-2, "adapters do nothing");
  const merged = mergeAdapters(tuned);
  assert(distance(before, await logits(merged)) < 1e-5);
  assertEquals(await logits(tuned), before);
  assertEquals(
    tree.leaves(merged).map(({ path }) => path),
    tree.leaves(params).map(({ path }) => path),
  );
});

Deno.test("a merged weight is W + scale · b a, computed in f32", async () => {
  const node = { weight: tensor([[1, 2], [3, 4]]), bias: zeros([2]) };
  const a = tensor([[1, -1]]), b = tensor([[2], [0.5]]), scale = tensor(3);
  const { fc, other } = mergeAdapters({
    fc: { ...node, lora: { a, b, scale } },
    other: node,
  });
  assertEquals(await fc.weight.toArray(), [[7, -4], [4.5, 2.5]]);
  assertEquals(Object.keys(fc), ["weight", "bias"]);
  assertEquals(fc.bias, node.bias);
  assertEquals(other, node);
});

Deno.test("merging makes one tensor a target and no more", () => {
  scope(() => {
    const before = memory().tensors;
    mergeAdapters(tuned);
    assert(memory().tensors <= before + 4);
  });
});

Deno.test("without its adapters the model is the base", () => {
  assertEquals(dropAdapters(tuned), params);
});

Deno.test("scaled adapters count more or less, by a number or a traced tensor", async () => {
  assertEquals(await logits(scaleAdapters(tuned, 1)), await logits(tuned));
  assertEquals(await logits(scaleAdapters(tuned, 0)), await logits(params));
  const half = await logits(scaleAdapters(tuned, 0.5));
  const ids = tensor(Int32Array.of(1, 2, 3, 4, 10, 0), { shape: [2, 3] });
  using run = jit((p: typeof tuned, s: ReturnType<typeof tensor>) =>
    model.apply(scaleAdapters(p, s), ids)
  );
  const traced = await run(tuned, tensor(0.5)).data() as Float32Array;
  assert(distance(half, traced) < 1e-6);
});

Deno.test("only the adapters get gradients, and those of a are zero while b is", async () => {
  const fresh = adapt(params);
  const [trainable, frozen] = tree.partition(fresh, isAdapter);
  const ids = tensor(Int32Array.of(1, 2, 3), { shape: [1, 3] });
  const { grads } = valueAndGrad((t: typeof fresh, f: typeof fresh) =>
    model.apply(tree.merge(t, f), ids).square().sum()
  )(trainable, frozen);
  const found = tree.leaves(grads);
  assertEquals(found.length, 8);
  for (const { path, leaf } of found) {
    const isZero = (await leaf.data()).every((x) => x === 0);
    assertEquals(isZero, path.endsWith(".a"), path);
  }
});

Deno.test("a tree without adapters, or half a tree, is refused", () => {
  const cases = [
    [mergeAdapters, "merge adapters"],
    [dropAdapters, "drop adapters"],
    [(p: typeof params) => scaleAdapters(p, 2), "scale adapters"],
  ] as const;
  const [, frozen] = tree.partition(tuned, isAdapter);
  for (const [change, what] of cases) {
    assertThrows(
      () => change(params),
      TreeError,
      `Cannot ${what}: no layer of the tree has an adapter`,
    );
    assertThrows(
      () => change(frozen),
      TreeError,
      `Cannot ${what}: the adapter at model.layers.0.self_attn.q_proj lacks a, b or scale; ` +
        "merge the trainable and the frozen half first, by tree.merge",
    );
  }
});

Deno.test("an embedding that the head is tied to is merged only where the head gets a weight of its own", async () => {
  const base = gpt.init(random.key(1));
  const options = { targets: "wte", rank: 2, alpha: 2, key: random.key(0) };
  const tied = moved(lora(base, options));
  const message =
    "Cannot merge the adapter at transformer.wte: its table is the output head's weight too, which has no adapter; " +
    "pass untie: true for a head of its own, and set tie_word_embeddings to false";
  const error = assertThrows(() => mergeAdapters(tied), TreeError);
  assertEquals(error.message, message);
  const merged = mergeAdapters(tied, { untie: true });
  assertStrictEquals(merged.lm_head!.weight, base.transformer.wte.weight);
  const untied = gpt2({ ...gptConfig, tie_word_embeddings: false });
  const [before, after] = [
    await outputs(gpt, tied),
    await outputs(untied, merged),
  ];
  assert(distance(before, after) < 1e-5);
  // Tables of positions, and of tokens where there is a head, are no one else's.
  mergeAdapters(lora(base, { ...options, targets: "wpe" }));
  const classifier = { ...base, score: { weight: zeros([2, 8]) } };
  mergeAdapters(lora(classifier, options));
  const masked = {
    bert: { embeddings: { word_embeddings: { weight: zeros([11, 8]) } } },
    cls: { predictions: { transform: { dense: { weight: zeros([8, 8]) } } } },
  };
  mergeAdapters(lora({ bert: masked.bert }, {
    ...options,
    targets: "word_embeddings",
  }));
  const bert = lora(masked, { ...options, targets: "word_embeddings" });
  assertThrows(
    () => mergeAdapters(bert, { untie: true }),
    TreeError,
    "Cannot merge the adapter at bert.embeddings.word_embeddings: its table is the output head's weight too, and the head of this model can have no other",
  );
});

Deno.test("a square weight of no known name is merged the way the caller says", async () => {
  const weight = zeros([2, 2]);
  const lora = {
    a: tensor([[1, 2]]),
    b: tensor([[1], [0]]),
    scale: tensor(1),
  };
  const merged = (fanInFanOut?: boolean) =>
    mergeAdapters({ mine: { weight, lora } }, {
      ...(fanInFanOut !== undefined && { fanInFanOut }),
    }).mine.weight.toArray();
  assertEquals(await merged(), [[1, 2], [0, 0]]);
  assertEquals(await merged(true), [[1, 0], [2, 0]]);
});

Deno.test("the check of a merge says how far outputs are", async () => {
  const ids = tensor(Int32Array.of(1, 2, 3), { shape: [1, 3] });
  const { largest, relative } = await verifyMerge(
    (p) => model.apply(p, ids),
    tuned,
  );
  assert(largest > 0 && relative < 1e-5);
  const wrong = await verifyMerge(
    (p) => p === tuned ? tensor([1, 4]) : tensor([1, 2]),
    tuned,
  );
  assertEquals(wrong, { largest: 2, relative: 0.5 });
});

Deno.test("copies that are missing in half a tree are told", () => {
  const base = gpt.init(random.key(1));
  const options = { targets: "c_attn", rank: 2, alpha: 2, key: random.key(0) };
  const all = lora(base, { ...options, bias: "all" });
  const [, frozen] = tree.partition(all, isAdapter);
  assertThrows(
    () => mergeAdapters(frozen),
    TreeError,
    "Cannot merge adapters: the adapter at transformer.h.0.ln_1 lacks its tensors; merge the trainable and the frozen half first, by tree.merge",
  );
});
