import { assertEquals } from "@std/assert";
import {
  grad,
  init,
  jit,
  random,
  type Tensor,
  tensor,
  tree,
  valueAndGrad,
} from "cotan";
import {
  adamw,
  applyUpdates,
  attention,
  chain,
  clipByGlobalNorm,
  crossEntropy,
  dropout,
  embedding,
  generate,
  layerNorm,
  linear,
  llama,
  rmsNorm,
  rope,
  warmupCosine,
} from "cotan/nn";
import { assertCloseData } from "../support/allclose.ts";
import { eachBackend } from "../support/backends.ts";
import { varied } from "./support.ts";

const others = ["wasm", "threads", "webgpu"] as const;

/** Asserts that values are within 1e-5 of the largest: a sum may cancel down to less. */
function assertNear(
  found: ArrayLike<number>,
  expected: ArrayLike<number>,
  what: string,
): void {
  const largest = Array.from(expected).reduce(
    (most, v) => Math.max(most, Math.abs(v)),
    0,
  );
  const bound = { rtol: 0, atol: 1e-5 * largest };
  assertCloseData(found, expected, what, bound);
}

function labels(shape: readonly number[], classes: number): Tensor {
  const size = shape.reduce((n, d) => n * d, 1);
  const list = Int32Array.from(
    { length: size },
    (_, i) => (7 * i + 3) % classes,
  );
  return tensor(list, { shape });
}

type Layer = (...args: Tensor[]) => Tensor;

/** Each layer with arguments; the first `floats` of them are differentiated. */
const layers: Record<
  string,
  { readonly f: Layer; readonly floats: number; args(): Tensor[] }
> = {
  linear: {
    f: (x, weight, bias, a, b, scale) =>
      linear({
        weight: weight!,
        bias: bias!,
        lora: { a: a!, b: b!, scale: scale! },
      }, x!),
    floats: 6,
    args: () => [
      varied([2, 13, 24], 1),
      varied([20, 24], 2),
      varied([20], 3),
      varied([3, 24], 4),
      varied([20, 3], 5),
      tensor(0.5),
    ],
  },
  embedding: {
    f: (weight, ids) => embedding({ weight: weight! }, ids!),
    floats: 1,
    args: () => [varied([11, 6]), labels([2, 9], 11)],
  },
  rmsNorm: {
    f: (x, weight) => rmsNorm({ weight: weight! }, x!),
    floats: 2,
    args: () => [varied([3, 5, 24], 1), varied([24], 2)],
  },
  layerNorm: {
    f: (x, weight, bias) => layerNorm({ weight: weight!, bias: bias! }, x!),
    floats: 3,
    args: () => [varied([3, 5, 24], 1), varied([24], 2), varied([24], 3)],
  },
  rope: {
    f: (x) => rope(x!, { position: 3 }),
    floats: 1,
    args: () => [varied([2, 3, 7, 6])],
  },
  attention: {
    f: (q, k, v, mask) => attention(q!, k!, v!, { causal: true, mask: mask! }),
    floats: 3,
    args: () => [
      varied([2, 6, 7, 4], 1),
      varied([2, 3, 7, 4], 2),
      varied([2, 3, 7, 4], 3),
      labels([2, 7], 2),
    ],
  },
  dropout: {
    f: (x, key) => dropout(x!, { rate: 0.3, key: key! }),
    floats: 1,
    args: () => [varied([5, 7]), random.key(4)],
  },
  crossEntropy: {
    f: (logits, labels) =>
      crossEntropy(logits!, labels!, { ignoreIndex: 3, labelSmoothing: 0.1 }),
    floats: 1,
    args: () => [varied([9, 17]), labels([9], 17)],
  },
};

/** Values of a layer and of its gradients, on the current backend. */
async function run(name: string): Promise<Float64Array[]> {
  const { f, floats, args } = layers[name]!;
  const all = args();
  using both = jit((list: Tensor[]) => {
    const rest = list.slice(floats);
    const loss = (primals: Tensor[]) => {
      const out = f(...primals, ...rest);
      return out.mul(out).add(out).sum();
    };
    return [f(...list), ...grad(loss)(list.slice(0, floats))];
  });
  const read = both(all).map(async (x) => Float64Array.from(await x.data()));
  return await Promise.all(read);
}

eachBackend("layers and their gradients equal the reference", async (_, t) => {
  const found = new Map<string, Float64Array[]>();
  for (const name of Object.keys(layers)) found.set(name, await run(name));
  await init({ backend: "reference", precision: "f64" });
  for (const [name, values] of found) {
    await t.step(name, async () => {
      const expected = await run(name);
      expected.forEach((e, i) =>
        assertNear(values[i]!, e, `${name}, result ${i},`)
      );
    });
  }
}, others);

const model = llama({
  vocab_size: 13,
  hidden_size: 12,
  intermediate_size: 20,
  num_hidden_layers: 1,
  num_attention_heads: 6,
  num_key_value_heads: 3,
  max_position_embeddings: 80,
  initializer_range: 0.4,
  tie_word_embeddings: true,
});

/** Losses of a few training steps, the parameters after them, and tokens generated from these. */
async function train(): Promise<{ values: number[][]; ids: number[] }> {
  const optimizer = chain(
    clipByGlobalNorm(1),
    adamw({
      learningRate: warmupCosine({ peak: 1e-2, warmup: 2, steps: 6 }),
      eps: 1e-4,
    }),
  );
  let params = model.init(random.key(1));
  let state = optimizer.init(params);
  const ids = labels([2, 9], 13);
  type Params = typeof params;
  using step = jit((params: Params, s: typeof state, ids: Tensor) => {
    const loss = (p: Params) =>
      crossEntropy(
        model.apply(p, ids).slice([null, [0, -1]]),
        ids.slice([null, [1, 9]]),
      );
    const { value, grads } = valueAndGrad(loss)(params);
    const { updates, state } = optimizer.update(grads, s, params);
    return { params: applyUpdates(params, updates), state, value };
  }, { donate: [0, 1] });
  const losses: number[] = [];
  for (let k = 0; k < 4; k++) {
    const out = step(params, state, ids);
    ({ params, state } = out);
    losses.push(await out.value.item());
  }
  const leaves = tree.leaves(params).map(async (
    { leaf },
  ) => [...await leaf.data()]);
  const greedy = generate(model, params, [1, 2, 3], { maxNewTokens: 8 });
  return {
    values: [losses, ...await Promise.all(leaves)],
    ids: await Array.fromAsync(greedy),
  };
}

eachBackend("training and generation equal the reference", async () => {
  const found = await train();
  await init({ backend: "reference", precision: "f64" });
  const expected = await train();
  expected.values.forEach((values, i) =>
    assertNear(found.values[i]!, values, `value ${i}`)
  );
  assertEquals(found.ids, expected.ids);
}, others);
