import { assert, assertEquals } from "@std/assert";
import { grad, init, random, type Tensor, tensor } from "../../core/mod.ts";
import { mergeAdapters } from "../../lora/mod.ts";
import { loadSafetensors } from "../../nn/checkpoint/mod.ts";
import { linear } from "../../nn/linear.ts";
import { isAbsent, shared } from "../nn/checkpoint/support.ts";

await init({ backend: "reference", precision: "f64" });

/** Largest distance, relative to the largest value. */
async function distance(x: Tensor, y: Tensor): Promise<number> {
  assertEquals(x.shape, y.shape);
  const [a, b] = [[...await x.data()], [...await y.data()]];
  const largest = Math.max(...b.map(Math.abs));
  return Math.max(...a.map((value, i) => Math.abs(value - b[i]!))) / largest;
}

Deno.test("gradients are those of the derivation, with dW never asked for", async () => {
  // y = x Wᵀ + s (x Aᵀ) Bᵀ; G = dL/dy, u = x Aᵀ.
  const draw = (i: number, shape: number[]) =>
    random.normal(random.key(i), shape);
  const weight = draw(1, [5, 4]), x = draw(2, [3, 4]), G = draw(3, [3, 5]);
  const a = draw(4, [2, 4]), b = draw(5, [5, 2]), scale = tensor(0.75);
  const loss = (t: { a: Tensor; b: Tensor; x: Tensor }) =>
    linear({ weight, bias: null, lora: { a: t.a, b: t.b, scale } }, t.x)
      .mul(G).sum();
  const found = grad(loss)({ a, b, x });
  const u = x.matmul(a.transpose());
  const expected = {
    a: G.matmul(b).transpose().matmul(x).mul(scale),
    b: G.transpose().matmul(u).mul(scale),
    x: G.matmul(weight).add(G.matmul(b).matmul(a).mul(scale)),
  };
  for (const name of ["a", "b", "x"] as const) {
    assert(await distance(found[name], expected[name]) < 1e-14, name);
  }
});

const golden = "golden/lora-bert-linear";
Deno.test({
  name: "weights merge as loralib's do",
  ignore: isAbsent(golden),
  fn: async () => {
    const load = (name: string) =>
      loadSafetensors(shared(`${golden}/${name}.safetensors`));
    const base = await load("model"), adapter = await load("adapter");
    const expected = await load("expected");
    const text = await Deno.readTextFile(shared(`${golden}/inputs.json`));
    const { r, lora_alpha: alpha } = JSON.parse(text).lora;
    const modules = Object.keys(adapter)
      .filter((name) => name.endsWith(".lora_A"))
      .map((name) => name.slice(0, -".lora_A".length));
    assertEquals(modules.length, 4);
    for (const module of modules) {
      const node = {
        weight: base[`${module}.weight`]!,
        lora: {
          a: adapter[`${module}.lora_A`]!,
          b: adapter[`${module}.lora_B`]!,
          scale: tensor(alpha / r),
        },
      };
      const merged = await mergeAdapters(node).weight.data();
      const other = await expected[`merged.${module}.weight`]!.data();
      // Both were computed in float64: rounded to float32 they are the same.
      assertEquals(Float32Array.from(merged), Float32Array.from(other));
    }
  },
});
