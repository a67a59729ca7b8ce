/**
 * jax-js's process: `jax.ts CASE`, on its wasm backend.
 *
 * Its arrays belong to whoever uses them: an operation frees its inputs, and `ref` makes one more owner. The package is
 * loaded by a name that no checker follows, so that only those who measure download it.
 *
 * Letters: N tokens, T time, V vocabulary, C channels, H heads, D head size.
 *
 * @module
 */

import type { CaseName } from "./cases.ts";
import {
  adapterInitials,
  ALPHA,
  ANSWER,
  batch,
  BLOCK,
  gptInitials,
  type Initials,
  prompt,
  RANK,
  RATE,
  SIZES,
  type Sizes,
  summary,
  uniform,
} from "./inputs.ts";
import type { Array_, Jax, Named } from "./jax_types.ts";
import { missing, serve, training, type Work } from "./serve.ts";

const PACKAGE = "npm:@jax-js/jax@0.1.25";

const { init, defaultDevice, jit, grad, valueAndGrad, numpy: np, nn, tree } =
  await (import(PACKAGE) as Promise<Jax>)
    .catch((error) => missing(PACKAGE, error));

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
      (x, y, z) => nn.gelu(x.mul(y).add(z)).sum(-1),
      matrix(4096, 1024, 1, 2),
      matrix(4096, 1024, 2, 2),
      matrix(4096, 1024, 3, 2),
    ),
  "W2 softmax": () =>
    computed((x) => nn.softmax(x, -1), matrix(4096, 512, 4, 4)),
  "W2 layer-norm": () =>
    computed(
      layerNorm,
      matrix(4096, 768, 5, 2),
      array(uniform(768, 6, 1), [768]),
      array(uniform(768, 7, 1), [768]),
    ),
  "W3 gradients": blockGradients,
  "W4 step": () => trained(SIZES.small, false),
  "W5 small": () => trained(SIZES.small, true),
  "W5 gpt2": () => trained(SIZES.gpt2, true),
  "W6 f32": answered,
};

function array(
  values: Float32Array | Int32Array,
  shape: readonly number[],
): Array_ {
  const dtype = values instanceof Int32Array ? np.int32 : np.float32;
  return np.array(values, { shape, dtype });
}

function matrix(rows: number, columns: number, seed: number, bound: number) {
  return array(uniform(rows * columns, seed, bound), [rows, columns]);
}

function arrays(initials: Initials): Named {
  return Object.fromEntries(
    Object.entries(initials)
      .map(([name, { shape, values }]) => [name, array(values(), shape)]),
  );
}

function product(m: number, k: number, n: number): Work {
  return computed(np.matmul, matrix(m, k, 1, 1), matrix(k, n, 2, 1));
}

function computed<A extends Array_[]>(
  f: (...args: A) => Array_,
  ...args: A
): Work {
  const compute = jit(f);
  const call = () => compute(...args.map((x) => x.ref) as A);
  return {
    async run() {
      const out = call();
      await out.blockUntilReady();
      out.dispose();
    },
    facts: async () => summary(await call().data()),
  };
}

function layerNorm(x: Array_, gain: Array_, shift: Array_): Array_ {
  const centred = x.ref.sub(x.mean(-1, { keepdims: true }));
  const variance = np.square(centred.ref).mean(-1, { keepdims: true });
  return centred.div(np.sqrt(variance.add(1e-5))).mul(gain).add(shift);
}

/** [T, T]: what is added to scores. */
function causal(T: number): Array_ {
  const values = new Float32Array(T * T);
  for (let t = 0; t < T; t++) values.fill(HIDDEN, t * T + t + 1, (t + 1) * T);
  return array(values, [T, T]);
}

function oneHot(ids: Int32Array, V: number): Array_ {
  const values = new Float32Array(ids.length * V);
  ids.forEach((id, i) => values[i * V + id] = 1);
  return array(values, [ids.length, V]);
}

/** A block on x [N, C], which it consumes; parameters stay. */
function block(
  p: Named,
  at: string,
  x: Array_,
  { T, H }: { T: number; H: number },
  hidden: Array_,
  adapters: Named | null,
): Array_ {
  const [N, C] = x.shape as [number, number];
  const take = (name: string) => p[at + name]!.ref;
  const linear = (x: Array_, name: string) =>
    np.matmul(x, take(`w${name}`)).add(take(`b${name}`));
  const norm = (x: Array_, n: number) =>
    layerNorm(x, take(`ln${n}g`), take(`ln${n}b`));
  const h = norm(x.ref, 1);
  const [q, k, v] = [..."qkv"].map((n) => {
    const out = linear(h.ref, n);
    const a = adapters?.[`${at}a${n}`];
    if (!a) return out;
    const low = np.matmul(h.ref, a.ref);
    const change = np.matmul(low, adapters![`${at}bb${n}`]!.ref);
    return out.add(change.mul(ALPHA / RANK));
  }).map((x) =>
    np.transpose(x.reshape([N / T, T, H, C / H]), [0, 2, 1, 3])
  ) as [Array_, Array_, Array_];
  h.dispose();
  const scores = np.matmul(q, np.transpose(k, [0, 1, 3, 2]))
    .mul(1 / Math.sqrt(C / H)).add(hidden.ref);
  const seen = np.matmul(nn.softmax(scores, -1), v);
  const joined = np.transpose(seen, [0, 2, 1, 3]).reshape([N, C]);
  const mid = x.add(linear(joined, "o"));
  return mid.ref.add(linear(nn.gelu(linear(norm(mid, 2), "1")), "2"));
}

function blockGradients(): Work {
  const { B, T, C, H, F } = BLOCK;
  const all = arrays(gptInitials({ V: 8, T: 8, C, L: 1, F }));
  const p = Object.fromEntries(
    Object.entries(all).filter(([name]) => name.startsWith("h0.")),
  );
  const [x, ct] = [11, 12].map((seed) =>
    array(uniform(B * T * C, seed, 1), [B * T, C])
  ) as [Array_, Array_];
  const hidden = causal(T);
  const loss = (
    { p, x }: { p: Named; x: Array_ },
    ct: Array_,
    hidden: Array_,
  ): Array_ => {
    const out = block(p, "h0.", x, { T, H }, hidden, null).mul(ct).sum();
    tree.dispose(p);
    hidden.dispose();
    return out;
  };
  const gradients = jit(grad(loss));
  const call = () =>
    gradients({ p: tree.ref(p), x: x.ref }, ct.ref, hidden.ref);
  return {
    async run() {
      const out = call();
      await Promise.all(tree.leaves(out).map((x) => x.blockUntilReady()));
      tree.dispose(out);
    },
    async facts() {
      const { p: dp, x: dx } = call();
      const dq = dp["h0.wq"]!;
      return [...summary(await dx.data()), ...summary(await dq.data())];
    },
  };
}

/** Logits [N, V]; ids are [N], or one-hot rows [N, V]. */
function logits(
  p: Named,
  { T, C, L, H }: Sizes,
  ids: Array_,
  hidden: Array_,
  adapters: Named | null,
): Array_ {
  const [N] = ids.shape as [number];
  const rows = ids.shape.length === 1
    ? p.wte!.ref.slice(ids)
    : np.matmul(ids, p.wte!.ref);
  const tokens = rows.reshape([N / T, T, C]);
  let x = tokens.add(p.wpe!.ref).reshape([N, C]);
  for (let l = 0; l < L; l++) {
    x = block(p, `h${l}.`, x, { T, H }, hidden, adapters);
  }
  const last = layerNorm(x, p.lnfg!.ref, p.lnfb!.ref);
  return np.matmul(last, np.transpose(p.wte!.ref));
}

/** Steps of AdamW. Training the embedding takes one-hot rows: the gradient of picking rows does not compile. */
function trained(sizes: Sizes, isLora: boolean): Work {
  const { B, T, V } = sizes, N = B * T;
  const b1 = 0.9, b2 = 0.999, eps = 1e-8, decay = 0.01;
  const ids = batch(sizes);
  const x = isLora ? array(ids.x, [N]) : oneHot(ids.x, V);
  const y = oneHot(ids.y, V), hidden = causal(T);
  const base = arrays(gptInitials(sizes));
  let trainable = isLora ? arrays(adapterInitials(sizes)) : base;
  const frozen: Named = isLora ? base : {};
  const loss = (
    t: Named,
    f: Named,
    x: Array_,
    y: Array_,
    hidden: Array_,
  ): Array_ => {
    const [p, adapters] = isLora ? [f, t] : [t, null];
    const out = logits(p, sizes, x, hidden, adapters);
    const mean = nn.logSoftmax(out, -1).mul(y).sum().mul(-1 / N);
    for (const used of [t, f, hidden]) tree.dispose(used);
    return mean;
  };
  const step = jit((
    t: Named,
    m: Named,
    v: Named,
    scales: Array_[],
    f: Named,
    x: Array_,
    y: Array_,
    hidden: Array_,
  ): [Named, Named, Named, Array_] => {
    const [value, grads] = valueAndGrad(loss)(tree.ref(t), f, x, y, hidden);
    const next: [Named, Named, Named] = [{}, {}, {}];
    const [rate, root] = scales as [Array_, Array_];
    for (const [name, p] of Object.entries(t)) {
      const g = grads[name]!;
      const mean = m[name]!.mul(b1).add(g.ref.mul(1 - b1));
      const square = v[name]!.mul(b2).add(np.square(g).mul(1 - b2));
      const size = np.sqrt(square.ref).mul(root.ref).add(eps);
      next[0][name] = p.mul(1 - RATE * decay)
        .sub(mean.ref.mul(rate.ref).div(size));
      next[1][name] = mean;
      next[2][name] = square;
    }
    tree.dispose(scales);
    return [...next, value];
  });
  const zeros = () =>
    Object.fromEntries(
      Object.entries(trainable).map(([name, x]) => [name, np.zeros(x.shape)]),
    );
  let m = zeros(), v = zeros(), count = 0;
  return training(async () => {
    count++;
    const scales = [
      np.array(RATE / (1 - b1 ** count)),
      np.array(1 / Math.sqrt(1 - b2 ** count)),
    ];
    let value: Array_;
    const [f, same] = [tree.ref(frozen), [x.ref, y.ref, hidden.ref] as const];
    [trainable, m, v, value] = step(trainable, m, v, scales, f, ...same);
    return (await value.data())[0]!;
  });
}

/** Greedy decoding with a cache whose slots are written by one-hot rows, for there is no scatter. */
function answered(): Work {
  const { T: S, C, H, L } = SIZES.gpt2, D = C / H;
  const p = arrays(gptInitials(SIZES.gpt2));
  const step = jit((
    p: Named,
    keys: Array_[],
    values: Array_[],
    id: Array_,
    place: Array_,
    hidden: Array_,
  ): [Array_[], Array_[], Array_] => {
    const tokens = p.wte!.ref.slice(id).reshape([1, C]);
    let x = tokens.add(np.matmul(place.ref.reshape([1, S]), p.wpe!.ref));
    const slot = place.reshape([1, S, 1]), kept = np.subtract(1, slot.ref);
    const nextKeys: Array_[] = [], nextValues: Array_[] = [];
    for (let l = 0; l < L; l++) {
      const take = (name: string) => p[`h${l}.${name}`]!.ref;
      const linear = (x: Array_, name: string) =>
        np.matmul(x, take(`w${name}`)).add(take(`b${name}`));
      const norm = (x: Array_, n: number) =>
        layerNorm(x, take(`ln${n}g`), take(`ln${n}b`));
      const h = norm(x.ref, 1);
      const [q, k, v] = [..."qkv"].map((n) =>
        linear(h.ref, n).reshape([H, 1, D])
      ) as [Array_, Array_, Array_];
      h.dispose();
      const write = (held: Array_, fresh: Array_) =>
        held.mul(kept.ref).add(fresh.mul(slot.ref));
      const key = write(keys[l]!, k), value = write(values[l]!, v);
      nextKeys.push(key.ref);
      nextValues.push(value.ref);
      const scores = np.matmul(q, np.transpose(key, [0, 2, 1]))
        .mul(1 / Math.sqrt(D)).add(hidden.ref.reshape([1, 1, S]));
      const seen = np.matmul(nn.softmax(scores, -1), value).reshape([1, C]);
      x = x.add(linear(seen, "o"));
      x = x.ref.add(linear(nn.gelu(linear(norm(x, 2), "1")), "2"));
    }
    const last = layerNorm(x, p.lnfg!.ref, p.lnfb!.ref);
    const out = np.matmul(last, np.transpose(p.wte!.ref));
    for (const used of [kept, slot, hidden, p]) tree.dispose(used);
    return [nextKeys, nextValues, np.argmax(out, 1)];
  });
  const asked = prompt(), ids: number[] = [];
  const empty = () => Array.from({ length: L }, () => np.zeros([H, S, D]));
  return {
    async run() {
      const times: number[] = [];
      let keys = empty(), values = empty(), next = 0;
      ids.length = 0;
      for (let i = 0; i < asked.length + ANSWER - 1; i++) {
        const start = performance.now();
        const id = asked[i] ?? next;
        const place = new Float32Array(S), hidden = new Float32Array(S);
        place[i] = 1;
        hidden.fill(HIDDEN, i + 1);
        let found: Array_;
        [keys, values, found] = step(
          tree.ref(p),
          keys,
          values,
          array(Int32Array.of(id), [1]),
          array(place, [S]),
          array(hidden, [S]),
        );
        next = (await found.data())[0]!;
        if (i < asked.length - 1) continue;
        ids.push(next);
        if (i >= asked.length) times.push(performance.now() - start);
      }
      tree.dispose([keys, values]);
      return times;
    },
    facts: () => [...ids],
  };
}

await init("wasm");
defaultDevice("wasm");
await serve((name) => WORKLOADS[name]?.() ?? null);
Deno.exit(0);
