/**
 * TensorFlow.js's process: `tfjs.ts CASE`, on its wasm backend.
 *
 * The packages are loaded by names that no checker follows, so that only those who measure download them.
 *
 * Letters: N tokens, T time, V vocabulary, C channels, H heads, D head size.
 *
 * @module
 */

import type { CaseName } from "./cases.ts";
import {
  adapterInitials,
  ALPHA,
  batch,
  BLOCK,
  gptInitials,
  type Initials,
  RANK,
  RATE,
  SIZES,
  type Sizes,
  summary,
  uniform,
} from "./inputs.ts";
import { missing, serve, training, type Work } from "./serve.ts";

/** A tensor or a variable, as far as it is used here. */
interface Tensor {
  readonly shape: number[];
  data(): Promise<Float32Array>;
  dispose(): void;
  assign(value: Tensor): void;
}

type Named = Record<string, Tensor>;
type Value = Tensor | number;

/** The package, as far as it is used here. */
interface Tf {
  setBackend(name: string): Promise<boolean>;
  ready(): Promise<void>;
  tidy<T>(f: () => T): T;
  tensor(
    values: Float32Array | Int32Array,
    shape: readonly number[],
    dtype?: string,
  ): Tensor;
  variable(initial: Tensor, trainable: boolean): Tensor;
  zerosLike(x: Tensor): Tensor;
  add(a: Value, b: Value): Tensor;
  sub(a: Value, b: Value): Tensor;
  mul(a: Value, b: Value): Tensor;
  div(a: Value, b: Value): Tensor;
  matMul(a: Tensor, b: Tensor, aT?: boolean, bT?: boolean): Tensor;
  sum(x: Tensor, axis?: number): Tensor;
  mean(x: Tensor, axis: number, keepDims: boolean): Tensor;
  square(x: Tensor): Tensor;
  sqrt(x: Tensor): Tensor;
  rsqrt(x: Tensor): Tensor;
  tanh(x: Tensor): Tensor;
  softmax(x: Tensor): Tensor;
  logSoftmax(x: Tensor): Tensor;
  transpose(x: Tensor, axes: number[]): Tensor;
  reshape(x: Tensor, shape: readonly number[]): Tensor;
  gather(x: Tensor, index: Tensor): Tensor;
  grads(f: (...x: Tensor[]) => Tensor): (x: Tensor[]) => Tensor[];
  variableGrads(
    f: () => Tensor,
    variables: Tensor[],
  ): { value: Tensor; grads: Named };
}

/** The version that is measured. */
const VERSION = "4.22.0";

const tf = await load();

async function load(): Promise<Tf> {
  const name = (part: string) => `npm:@tensorflow/tfjs${part}@${VERSION}`;
  try {
    const core = await import(name("-core")) as Tf;
    // Gradients are registered by the package of everything.
    await import(name(""));
    await import(name("-backend-wasm"));
    return core;
  } catch (error) {
    missing(name(""), error);
  }
}

/** Added to the scores of keys that a query must not see. */
const HIDDEN = -1e9;

const WORKLOADS: Readonly<Partial<Record<CaseName, () => Work>>> = {
  "W1 256": () => product(256, 256, 256),
  "W1 512": () => product(512, 512, 512),
  "W1 1024": () => product(1024, 1024, 1024),
  "W1 2048": () => product(2048, 2048, 2048),
  "W1 512x768x8": () => product(512, 768, 8),
  "W1 512x8x768": () => product(512, 8, 768),
  "W2 gelu-sum": () =>
    computed(
      (x, y, z) => tf.sum(gelu(tf.add(tf.mul(x, y), z)), -1),
      matrix(4096, 1024, 1, 2),
      matrix(4096, 1024, 2, 2),
      matrix(4096, 1024, 3, 2),
    ),
  "W2 softmax": () => computed(tf.softmax, matrix(4096, 512, 4, 4)),
  "W2 layer-norm": () =>
    computed(
      layerNorm,
      matrix(4096, 768, 5, 2),
      tf.tensor(uniform(768, 6, 1), [768]),
      tf.tensor(uniform(768, 7, 1), [768]),
    ),
  "W3 gradients": blockGradients,
  "W4 step": () => trained(SIZES.small, false),
  "W5 small": () => trained(SIZES.small, true),
  "W5 gpt2": () => trained(SIZES.gpt2, true),
};

function matrix(rows: number, columns: number, seed: number, bound: number) {
  return tf.tensor(uniform(rows * columns, seed, bound), [rows, columns]);
}

function tensors(initials: Initials): Named {
  return Object.fromEntries(
    Object.entries(initials)
      .map(([name, { shape, values }]) => [name, tf.tensor(values(), shape)]),
  );
}

function product(m: number, k: number, n: number): Work {
  return computed(
    (a, b) => tf.matMul(a, b),
    matrix(m, k, 1, 1),
    matrix(k, n, 2, 1),
  );
}

function computed<A extends Tensor[]>(
  f: (...args: A) => Tensor,
  ...args: A
): Work {
  const call = () => tf.tidy(() => f(...args));
  return {
    run: () => call().dispose(),
    facts: async () => summary(await call().data()),
  };
}

function layerNorm(x: Tensor, gain: Tensor, shift: Tensor): Tensor {
  const centred = tf.sub(x, tf.mean(x, -1, true));
  const variance = tf.mean(tf.square(centred), -1, true);
  const unit = tf.mul(centred, tf.rsqrt(tf.add(variance, 1e-5)));
  return tf.add(tf.mul(unit, gain), shift);
}

/** GELU by tanh. */
function gelu(x: Tensor): Tensor {
  const cubic = tf.add(tf.mul(tf.mul(x, x), 0.044715), 1);
  const inner = tf.mul(tf.mul(x, cubic), Math.sqrt(2 / Math.PI));
  return tf.mul(tf.mul(x, 0.5), tf.add(tf.tanh(inner), 1));
}

/** [T, T]: what is added to scores. */
function causal(T: number): Tensor {
  const values = new Float32Array(T * T);
  for (let t = 0; t < T; t++) values.fill(HIDDEN, t * T + t + 1, (t + 1) * T);
  return tf.tensor(values, [1, 1, T, T]);
}

function oneHot(ids: Int32Array, V: number): Tensor {
  const values = new Float32Array(ids.length * V);
  ids.forEach((id, i) => values[i * V + id] = 1);
  return tf.tensor(values, [ids.length, V]);
}

/** A block on x [N, C]. */
function block(
  p: Named,
  at: string,
  x: Tensor,
  { T, H }: { T: number; H: number },
  hidden: Tensor,
  adapters: Named | null,
): Tensor {
  const [N, C] = x.shape as [number, number];
  const take = (name: string) => p[at + name]!;
  const linear = (x: Tensor, name: string) =>
    tf.add(tf.matMul(x, take(`w${name}`)), take(`b${name}`));
  const norm = (x: Tensor, n: number) =>
    layerNorm(x, take(`ln${n}g`), take(`ln${n}b`));
  const h = norm(x, 1);
  const [q, k, v] = [..."qkv"].map((n) => {
    const out = linear(h, n);
    const a = adapters?.[`${at}a${n}`];
    if (!a) return out;
    const change = tf.matMul(tf.matMul(h, a), adapters![`${at}bb${n}`]!);
    return tf.add(out, tf.mul(change, ALPHA / RANK));
  }).map((x) =>
    tf.transpose(tf.reshape(x, [N / T, T, H, C / H]), [0, 2, 1, 3])
  ) as [Tensor, Tensor, Tensor];
  const products = tf.matMul(q, k, false, true);
  const scores = tf.add(tf.mul(products, 1 / Math.sqrt(C / H)), hidden);
  const seen = tf.matMul(tf.softmax(scores), v);
  const joined = tf.reshape(tf.transpose(seen, [0, 2, 1, 3]), [N, C]);
  const mid = tf.add(x, linear(joined, "o"));
  return tf.add(mid, linear(gelu(linear(norm(mid, 2), "1")), "2"));
}

function blockGradients(): Work {
  const { B, T, C, H, F } = BLOCK;
  const all = tensors(gptInitials({ V: 8, T: 8, C, L: 1, F }));
  const names = Object.keys(all).filter((name) => name.startsWith("h0."));
  const [x, ct] = [11, 12].map((seed) =>
    tf.tensor(uniform(B * T * C, seed, 1), [B * T, C])
  ) as [Tensor, Tensor];
  const hidden = causal(T);
  const gradients = tf.grads((x, ...list) => {
    const p = Object.fromEntries(names.map((name, i) => [name, list[i]!]));
    const out = block(p, "h0.", x!, { T, H }, hidden, null);
    return tf.sum(tf.mul(out, ct));
  });
  const call = () =>
    tf.tidy(() => gradients([x, ...names.map((name) => all[name]!)]));
  return {
    run: () => call().forEach((x) => x.dispose()),
    async facts() {
      const [dx, ...dp] = call() as [Tensor, ...Tensor[]];
      const dq = dp[names.indexOf("h0.wq")]!;
      return [...summary(await dx.data()), ...summary(await dq.data())];
    },
  };
}

/** Logits [N, V]; ids are [N], or one-hot rows [N, V]. */
function logits(
  p: Named,
  { T, C, L, H }: Sizes,
  ids: Tensor,
  hidden: Tensor,
  adapters: Named | null,
): Tensor {
  const [N] = ids.shape as [number];
  const rows = ids.shape.length === 1
    ? tf.gather(p.wte!, ids)
    : tf.matMul(ids, p.wte!);
  const placed = tf.add(tf.reshape(rows, [N / T, T, C]), p.wpe!);
  let x = tf.reshape(placed, [N, C]);
  for (let l = 0; l < L; l++) {
    x = block(p, `h${l}.`, x, { T, H }, hidden, adapters);
  }
  const last = layerNorm(x, p.lnfg!, p.lnfb!);
  return tf.matMul(last, p.wte!, false, true);
}

/** Steps of AdamW. Training the embedding takes one-hot rows: the gradient of gather has no kernel on wasm. */
function trained(sizes: Sizes, isLora: boolean): Work {
  const { B, T, V } = sizes, N = B * T;
  const b1 = 0.9, b2 = 0.999, eps = 1e-8, decay = 0.01;
  const ids = batch(sizes);
  const x = isLora ? tf.tensor(ids.x, [N], "int32") : oneHot(ids.x, V);
  const y = oneHot(ids.y, V), hidden = causal(T);
  const base = tensors(gptInitials(sizes));
  const source = isLora ? tensors(adapterInitials(sizes)) : base;
  const variables = (make: (x: Tensor) => Tensor, trainable: boolean): Named =>
    Object.fromEntries(
      Object.entries(source)
        .map(([name, x]) => [name, tf.variable(make(x), trainable)]),
    );
  const trainable = variables((x) => x, true);
  const m = variables(tf.zerosLike, false), v = variables(tf.zerosLike, false);
  const [p, adapters] = isLora ? [base, trainable] : [trainable, null];
  const loss = (): Tensor => {
    const out = logits(p, sizes, x, hidden, adapters);
    return tf.mul(tf.sum(tf.mul(tf.logSoftmax(out), y)), -1 / N);
  };
  const list = Object.values(trainable);
  let count = 0;
  return training(async () => {
    count++;
    const rate = RATE / (1 - b1 ** count),
      root = 1 / Math.sqrt(1 - b2 ** count);
    const { value, grads } = tf.variableGrads(loss, list);
    const found = Object.values(grads);
    tf.tidy(() => {
      Object.keys(trainable).forEach((name, i) => {
        const g = found[i]!, p = trainable[name]!;
        const mean = tf.add(tf.mul(m[name]!, b1), tf.mul(g, 1 - b1));
        const square = tf.add(
          tf.mul(v[name]!, b2),
          tf.mul(tf.square(g), 1 - b2),
        );
        m[name]!.assign(mean);
        v[name]!.assign(square);
        const size = tf.add(tf.mul(tf.sqrt(square), root), eps);
        const kept = tf.mul(p, 1 - RATE * decay);
        p.assign(tf.sub(kept, tf.div(tf.mul(mean, rate), size)));
      });
    });
    const [now] = await value.data();
    for (const used of [value, ...found]) used.dispose();
    return now!;
  });
}

await tf.setBackend("wasm");
await tf.ready();
await serve((name) => WORKLOADS[name]?.() ?? null);
Deno.exit(0);
