/**
 * Vectors of whole sequences, from the hidden states of their tokens.
 *
 * Letters: B batch, T time, C channels.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { format, scope, ShapeError, type Tensor, where } from "../core/mod.ts";
import { type Linear, linear } from "./linear.ts";

/**
 * The mean over the real tokens: hidden is [B, T, C], the mask [B, T] of any dtype, 0 for padding; the result is [B, C].
 *
 * A sequence without a real token gives zeros. Throws `ShapeError` where the shapes do not fit.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { meanPool } from "cotan/nn";
 *
 * const hidden = tensor([[[1, 2], [3, 6], [9, 9]]]);
 * const mask = tensor(Int32Array.of(1, 1, 0), { shape: [1, 3] });
 * assertEquals(await meanPool(hidden, mask).toArray(), [[2, 4]]);
 * ```
 */
export function meanPool(hidden: Tensor, mask: Tensor | null = null): Tensor {
  const [B, T] = checkHidden(hidden);
  if (!mask) return hidden.mean({ axis: 1 });
  if (mask.shape.length !== 2 || mask.shape[0] !== B || mask.shape[1] !== T) {
    throw new ShapeError(
      `Cannot pool ${format(hidden)}: the mask is ${
        format(mask)
      }, and must be [${B}, ${T}]`,
    );
  }
  return scope(() => {
    const real = (mask.dtype === "bool" ? mask : mask.ne(0)).unsqueeze(-1);
    const count = real.cast("f32").sum({ axis: 1 }).maximum(1); // [B, 1]
    return where(real, hidden, 0).sum({ axis: 1 }).div(count);
  });
}

/**
 * The first token's: hidden [B, T, C] to [B, C].
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { firstToken } from "cotan/nn";
 *
 * assertEquals(await firstToken(tensor([[[1, 2], [3, 4]]])).toArray(), [[1, 2]]);
 * ```
 */
export function firstToken(hidden: Tensor): Tensor {
  checkHidden(hidden);
  return scope(() => hidden.slice([null, [0, 1]]).squeeze(1));
}

/** A dense layer of the first token, as checkpoints of BERT keep it. */
export type Pooler = {
  /** [C, C]. */
  readonly dense: Linear;
};

/**
 * BERT's pooler, `tanh` of a dense layer of the first token (Devlin et al., arXiv 1810.04805): hidden [B, T, C] to [B, C].
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { pooler } from "cotan/nn";
 *
 * const dense = { weight: tensor([[0, 1], [0, 0]]) };
 * const pooled = pooler({ dense }, tensor([[[1, 100], [3, 4]]]));
 * assertEquals(await pooled.toArray(), [[1, 0]]);
 * ```
 */
export function pooler(p: Pooler, hidden: Tensor): Tensor {
  return scope(() => linear(p.dense, firstToken(hidden)).tanh());
}

/**
 * Vectors of length 1 along the last axis, `x / max(‖x‖, eps)`; eps 1e-12. Their products are cosines.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { normalize } from "cotan/nn";
 *
 * const [x, y] = await normalize(tensor([3, 4])).data();
 * assertEquals([x!.toFixed(4), y!.toFixed(4)], ["0.6000", "0.8000"]);
 * ```
 */
export function normalize(
  x: Tensor,
  options: { readonly eps?: number } = {},
): Tensor {
  const { eps = 1e-12 } = options;
  return scope(() => {
    // The bound stands under the root, which has no slope at 0.
    const squares = x.square().sum({ axis: -1, keepDims: true });
    return x.mul(squares.maximum(eps ** 2).rsqrt());
  });
}

function checkHidden(hidden: Tensor): readonly [number, number, number] {
  if (hidden.shape.length === 3) {
    return hidden.shape as [number, number, number];
  }
  throw new ShapeError(
    `Cannot pool ${format(hidden)}: hidden states are [batch, time, channels]`,
  );
}
