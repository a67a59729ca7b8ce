/**
 * A small pre-LN Transformer in the shape of GPT-2, for tests of plans.
 *
 * @module
 */

import { random, split, type Tensor } from "cotan";
import {
  attention,
  crossEntropy,
  embedding,
  layerNorm,
  linear,
} from "cotan/nn";

/** Sizes: C channels, H heads, T time, V vocabulary, and the layers. */
export interface Sizes {
  readonly C: number;
  readonly H: number;
  readonly T: number;
  readonly V: number;
  readonly layers: number;
}

type Affine = { readonly weight: Tensor; readonly bias: Tensor };

/** Parameters of a block; queries, keys and values come of one matrix or of three. */
export type Block = {
  readonly ln_1: Affine;
  readonly attn: { readonly qkv: readonly Affine[]; readonly c_proj: Affine };
  readonly ln_2: Affine;
  readonly mlp: { readonly c_fc: Affine; readonly c_proj: Affine };
};

/** Parameters of the model; the head is the embedding. */
export type Model = {
  readonly wte: { readonly weight: Tensor };
  readonly wpe: { readonly weight: Tensor };
  readonly h: readonly Block[];
  readonly ln_f: Affine;
};

/** Parameters of a block. */
export function blockParams({ C }: Sizes, isFused = true): Block {
  const weights = (...shape: number[]): Tensor =>
    random.normal(random.key(shape.reduce((a, b) => 31 * a + b)), shape)
      .mul(0.05);
  const affine = (out: number, inner: number): Affine => ({
    weight: weights(out, inner),
    bias: weights(out),
  });
  const norm = (): Affine => ({ weight: weights(C).add(1), bias: weights(C) });
  return {
    ln_1: norm(),
    attn: {
      qkv: isFused
        ? [affine(3 * C, C)]
        : [affine(C, C), affine(C, C), affine(C, C)],
      c_proj: affine(C, C),
    },
    ln_2: norm(),
    mlp: { c_fc: affine(4 * C, C), c_proj: affine(C, 4 * C) },
  };
}

/** Parameters of the model. */
export function modelParams(sizes: Sizes, isFused = true): Model {
  const { C, T, V, layers } = sizes;
  const weights = (...shape: number[]): Tensor =>
    random.normal(random.key(7), shape).mul(0.05);
  return {
    wte: { weight: weights(V, C) },
    wpe: { weight: weights(T, C) },
    h: Array.from({ length: layers }, () => blockParams(sizes, isFused)),
    ln_f: { weight: weights(C).add(1), bias: weights(C) },
  };
}

/** A block: x [B, T, C] to the same. */
export function applyBlock({ H }: Sizes, p: Block, x: Tensor): Tensor {
  const [B, T, C] = x.shape as [number, number, number];
  const heads = (y: Tensor): Tensor =>
    y.reshape([B, T, H, C / H]).transpose([0, 2, 1, 3]);
  const a = layerNorm(p.ln_1, x);
  const [first, ...rest] = p.attn.qkv.map((w) => linear(w, a));
  const [q, k, v] = rest.length > 0
    ? [first!, ...rest]
    : split(first!, [C, C, C], { axis: -1 });
  const seen = attention(heads(q!), heads(k!), heads(v!), { causal: true });
  const joined = seen.transpose([0, 2, 1, 3]).reshape([B, T, C]);
  const y = x.add(linear(p.attn.c_proj, joined));
  const hidden = linear(p.mlp.c_fc, layerNorm(p.ln_2, y))
    .gelu({ approximate: "tanh" });
  return y.add(linear(p.mlp.c_proj, hidden));
}

/** The mean cross entropy of labels [B, T] given ids [B, T]; `wrap` stands around each block. */
export function modelLoss(
  sizes: Sizes,
  p: Model,
  ids: Tensor,
  labels: Tensor,
  wrap: <F>(block: F) => F = (block) => block,
): Tensor {
  const block = wrap((q: Block, y: Tensor) => applyBlock(sizes, q, y));
  let x = embedding(p.wte, ids).add(p.wpe.weight);
  for (const layer of p.h) x = block(layer, x);
  const logits = linear(
    { weight: p.wte.weight, bias: null },
    layerNorm(p.ln_f, x),
  );
  return crossEntropy(logits.reshape([-1, sizes.V]), labels.reshape([-1]));
}
