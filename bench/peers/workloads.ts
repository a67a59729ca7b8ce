/**
 * The workloads by Cotan, as its users would write them, on the backend that is open.
 *
 * Letters: B batch, T time, V vocabulary, C channels, H heads, F channels inside a feed-forward layer.
 *
 * @module
 */

import {
  concat,
  grad,
  jit,
  memory,
  random,
  scope,
  split,
  type Tensor,
  tensor,
  tree,
  valueAndGrad,
} from "cotan";
import { isAdapter, lora } from "cotan/lora";
import {
  adamw,
  applyUpdates,
  attention,
  type Conv1D,
  conv1D,
  crossEntropy,
  generate,
  gpt2,
  type GPT2Params,
  layerNorm,
  type Norm,
} from "cotan/nn";
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
import { training, type Work } from "./serve.ts";

/** What prepares each workload. */
const WORKLOADS: Readonly<Record<CaseName, () => Work>> = {
  "W1 256": () => product(256, 256, 256),
  "W1 512": () => product(512, 512, 512),
  "W1 1024": () => product(1024, 1024, 1024),
  "W1 2048": () => product(2048, 2048, 2048),
  "W1 512x768x8": () => product(512, 768, 8),
  "W1 512x8x768": () => product(512, 8, 768),
  "W2 gelu-sum": () =>
    computed(
      (x, y, z) =>
        x.mul(y).add(z).gelu({ approximate: "tanh" }).sum({ axis: -1 }),
      matrix(4096, 1024, 1, 2),
      matrix(4096, 1024, 2, 2),
      matrix(4096, 1024, 3, 2),
    ),
  "W2 softmax": () => computed((x) => x.softmax(), matrix(4096, 512, 4, 4)),
  "W2 layer-norm": () =>
    computed(
      (x, weight, bias) => layerNorm({ weight, bias }, x),
      matrix(4096, 768, 5, 2),
      tensor(uniform(768, 6, 1)),
      tensor(uniform(768, 7, 1)),
    ),
  "W3 gradients": blockGradients,
  "W4 step": () => trained(SIZES.small, false),
  "W5 small": () => trained(SIZES.small, true),
  "W5 gpt2": () => trained(SIZES.gpt2, true),
  "W5 gpt2-full": () => trained(SIZES.gpt2, false),
  "W6 f32": () => answered("f32"),
  "W6 bf16": () => answered("bf16"),
};

/** Prepares a workload. The backend must be one that has results when a call returns, as wasm has. */
export function workload(name: CaseName): Work {
  return { ...WORKLOADS[name](), bytes: () => memory().reservedBytes };
}

function matrix(rows: number, columns: number, seed: number, bound: number) {
  const shape = [rows, columns];
  return tensor(uniform(rows * columns, seed, bound), { shape });
}

function product(m: number, k: number, n: number): Work {
  const [a, b] = [matrix(m, k, 1, 1), matrix(k, n, 2, 1)];
  return computed((a, b) => a.matmul(b), a, b);
}

function computed<A extends Tensor[]>(
  f: (...args: A) => Tensor,
  ...args: A
): Work {
  const compute = jit(f);
  return {
    run: () => compute(...args).dispose(),
    facts: async () => summary(await compute(...args).data()),
  };
}

/** Parameters of a block. */
type Block = {
  readonly ln_1: Norm;
  readonly ln_2: Norm;
  readonly c_attn: Conv1D;
  readonly c_proj: Conv1D;
  readonly c_fc: Conv1D;
  readonly mlp_proj: Conv1D;
};

/** Parameters of the block whose names start so. Queries, keys and values are one matrix, as in GPT-2. */
function blockParams(initials: Initials, at: string): Block {
  const take = (name: string): Tensor => {
    const { shape, values } = initials[at + name]!;
    return tensor(values(), { shape });
  };
  const norm = (n: number): Norm => ({
    weight: take(`ln${n}g`),
    bias: take(`ln${n}b`),
  });
  const layer = (name: string): Conv1D => ({
    weight: take(`w${name}`),
    bias: take(`b${name}`),
  });
  const c_attn = scope(() => {
    const qkv = [..."qkv"].map(layer);
    return {
      weight: concat(qkv.map(({ weight }) => weight as Tensor), { axis: 1 }),
      bias: concat(qkv.map(({ bias }) => bias!)),
    };
  });
  return {
    ln_1: norm(1),
    ln_2: norm(2),
    c_attn,
    c_proj: layer("o"),
    c_fc: layer("1"),
    mlp_proj: layer("2"),
  };
}

function applyBlock(p: Block, x: Tensor): Tensor {
  const { B, T, C, H } = BLOCK;
  const fused = conv1D(p.c_attn, layerNorm(p.ln_1, x)); // [B, T, 3·C]
  const [q, k, v] = split(fused, [C, C, C], { axis: -1 }).map((part) =>
    part.reshape([B, T, H, C / H]).transpose([0, 2, 1, 3])
  ) as [Tensor, Tensor, Tensor];
  const seen = attention(q, k, v, { causal: true });
  const joined = seen.transpose([0, 2, 1, 3]).reshape([B, T, C]);
  const mid = x.add(conv1D(p.c_proj, joined));
  const inner = conv1D(p.c_fc, layerNorm(p.ln_2, mid));
  return mid.add(conv1D(p.mlp_proj, inner.gelu({ approximate: "tanh" })));
}

function blockGradients(): Work {
  const { B, T, C, F } = BLOCK;
  const p = blockParams(gptInitials({ V: 8, T: 8, C, L: 1, F }), "h0.");
  const [x, ct] = [11, 12].map((seed) =>
    tensor(uniform(B * T * C, seed, 1), { shape: [B, T, C] })
  ) as [Tensor, Tensor];
  const loss = ({ p, x }: { p: Block; x: Tensor }, ct: Tensor): Tensor =>
    applyBlock(p, x).mul(ct).sum();
  const gradients = jit((p: Block, x: Tensor, ct: Tensor) =>
    grad(loss)({ p, x }, ct)
  );
  return {
    run() {
      for (const { leaf } of tree.leaves(gradients(p, x, ct))) leaf.dispose();
    },
    async facts() {
      const { p: dp, x: dx } = gradients(p, x, ct);
      const dq = (dp.c_attn.weight as Tensor).slice([null, [0, C]]);
      return [...summary(await dx.data()), ...summary(await dq.data())];
    },
  };
}

function modelOf({ V, T, C, L, H, F }: Sizes) {
  return gpt2({
    vocab_size: V,
    n_positions: T,
    n_embd: C,
    n_layer: L,
    n_head: H,
    n_inner: F,
  });
}

function paramsOf(sizes: Sizes): GPT2Params {
  const initials = gptInitials(sizes);
  const take = (name: string): Tensor => {
    const { shape, values } = initials[name]!;
    return tensor(values(), { shape });
  };
  const h = Array.from({ length: sizes.L }, (_, l) => {
    const block = blockParams(initials, `h${l}.`);
    const { ln_1, ln_2, c_attn, c_proj, c_fc, mlp_proj } = block;
    return {
      ln_1,
      attn: { c_attn, c_proj },
      ln_2,
      mlp: { c_fc, c_proj: mlp_proj },
    };
  });
  return {
    transformer: {
      wte: { weight: take("wte") },
      wpe: { weight: take("wpe") },
      h,
      ln_f: { weight: take("lnfg"), bias: take("lnfb") },
    },
  };
}

/** The model with an adapter of queries and of values in each block. */
function adapted(sizes: Sizes, params: GPT2Params): GPT2Params {
  const tuned = lora(params, {
    targets: ["c_attn"],
    parts: { c_attn: [true, false, true] },
    rank: RANK,
    alpha: ALPHA,
    key: random.key(0),
  });
  const [adapters, rest] = tree.partition(tuned, isAdapter);
  // Ours are [R, in] and [out, R], the listed ones the other way round.
  const values = Object.values(adapterInitials(sizes)).map((initial) =>
    tensor(initial.values(), { shape: initial.shape }).transpose()
  );
  return tree.merge(tree.fromLeaves(adapters, values), rest);
}

/** Steps of training on one batch: of adapters, or of all parameters. */
function trained(sizes: Sizes, isLora: boolean): Work {
  const model = modelOf(sizes);
  const base = paramsOf(sizes);
  const start = isLora ? adapted(sizes, base) : base;
  let [trainable, frozen] = tree.partition(start, isLora ? isAdapter : "**");
  const optimizer = adamw({ learningRate: RATE });
  let state = optimizer.init(trainable);
  const loss = (t: GPT2Params, f: GPT2Params, x: Tensor, y: Tensor): Tensor =>
    crossEntropy(
      model.apply(tree.merge(t, f), x).reshape([-1, sizes.V]),
      y,
    );
  const step = jit((
    t: GPT2Params,
    s: typeof state,
    f: GPT2Params,
    x: Tensor,
    y: Tensor,
  ) => {
    const { value, grads } = valueAndGrad(loss)(t, f, x, y);
    const { updates, state } = optimizer.update(grads, s, t);
    return { trainable: applyUpdates(t, updates), state, value };
  }, { donate: [0, 1] });
  const ids = batch(sizes);
  const x = tensor(ids.x, { shape: [sizes.B, sizes.T] }), y = tensor(ids.y);
  return training(async () => {
    const out = step(trainable, state, frozen, x, y);
    ({ trainable, state } = out);
    using value = out.value;
    return await value.item();
  });
}

/** Greedy decoding: the times between tokens, so that the prompt and what is compiled count for nothing. */
function answered(dtype: "f32" | "bf16"): Work {
  const model = modelOf(SIZES.gpt2);
  const params = scope(() =>
    tree.map((x) => x.cast(dtype), paramsOf(SIZES.gpt2))
  );
  const ids: number[] = [];
  return {
    async run() {
      ids.length = 0;
      const times: number[] = [];
      let last = NaN;
      const options = { maxNewTokens: ANSWER };
      for await (const id of generate(model, params, prompt(), options)) {
        const now = performance.now();
        if (ids.push(id) > 1) times.push(now - last);
        last = now;
      }
      return times;
    },
    facts: () => dtype === "f32" ? [...ids] : [],
  };
}
