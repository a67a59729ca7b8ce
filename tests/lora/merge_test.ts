import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  init,
  jit,
  memory,
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
  mergeAdapters,
  scaleAdapters,
} from "../../lora/mod.ts";
import {
  adapt,
  baseParams,
  distance,
  logits,
  model,
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
