/**
 * Rotary position embedding.
 *
 * Letters: B batch, H heads, T time, D head size.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  format,
  iota,
  scope,
  ShapeError,
  type Tensor,
  type TensorLike,
} from "../core/mod.ts";
import { positions } from "./positions.ts";

/**
 * How wavelengths are stretched for longer texts, under Hugging Face's names; the rate is 2π / wavelength.
 *
 * "linear" divides every rate by the factor. "llama3" (Llama 3.1, arXiv 2407.21783) divides the rates that turn less
 * than low_freq_factor times in the original length, keeps those that turn more than high_freq_factor times, and goes
 * from one to the other linearly in the number of turns.
 */
export type RopeScaling =
  | { readonly rope_type: "linear"; readonly factor: number }
  | {
    readonly rope_type: "llama3";
    readonly factor: number;
    readonly low_freq_factor: number;
    readonly high_freq_factor: number;
    readonly original_max_position_embeddings: number;
  };

/** Options of `rope`. */
export interface RopeOptions {
  /** Wavelengths grow from 2π to 2π · base; 10000. */
  readonly base?: number;
  /** Position of the first token: a number, a scalar tensor, or [B], one for each row; may be traced; 0. */
  readonly position?: TensorLike;
  /** How wavelengths are stretched; not at all. */
  readonly scaling?: RopeScaling | null;
}

/**
 * Rotates pairs of channels by angles that grow with the position (RoFormer, arXiv 2104.09864): x is [B, H, T, D].
 *
 * Channel j is paired with j + D/2, as in Hugging Face's Llama ("half-split"); the paper pairs neighbours. The angle
 * at position t is `t · base^(-2j/D)`. Throws `ShapeError` for an odd D.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { rope } from "cotan/nn";
 *
 * const x = tensor([[[[1, 0], [1, 0]]]]);
 * const [, , cosine, sine] = await rope(x, {}).data();
 * assertAlmostEquals(cosine!, Math.cos(1), 1e-6);
 * assertAlmostEquals(sine!, Math.sin(1), 1e-6);
 * ```
 */
export function rope(x: Tensor, options: RopeOptions = {}): Tensor {
  const { base = 10000, position = 0, scaling = null } = options;
  const size = x.shape.at(-1) ?? 0;
  if (x.shape.length < 2 || size % 2 !== 0) {
    throw new ShapeError(
      `Cannot rotate ${
        format(x)
      }: it must be [..., T, D] with an even head size`,
    );
  }
  const time = x.shape.at(-2)!, half = size / 2;
  return scope(() => {
    const at = positions(position, time).cast("f32"); // [T] or [B, T]
    const rate = stretched(
      iota([half], { dtype: "f32" }).mul(-Math.log(base) / half).exp(),
      scaling,
    );
    const angle = at.reshape([...at.shape.slice(0, -1), 1, time, 1, 1])
      .mul(rate); // [1, T, 1, D/2] or [B, 1, T, 1, D/2]
    // (u, v) becomes (u cos - v sin, v cos + u sin): both halves at once, with the sine negative in the first.
    const sign = iota([2, 1], { dtype: "f32" }).mul(2).sub(1);
    const halves = x.reshape([...x.shape.slice(0, -1), 2, half]);
    return halves.mul(angle.cos())
      .add(halves.flip(-2).mul(angle.sin().mul(sign)))
      .reshape(x.shape);
  });
}

/** Rates [D/2] after scaling. */
function stretched(rate: Tensor, scaling: RopeScaling | null): Tensor {
  if (!scaling) return rate;
  const { factor } = scaling;
  if (scaling.rope_type === "linear") return rate.div(factor);
  const { low_freq_factor: low, high_freq_factor: high } = scaling;
  const length = scaling.original_max_position_embeddings;
  // Turns in the original length, as a share of the way from low to high.
  const kept = rate.mul(length / (2 * Math.PI)).sub(low).div(high - low)
    .clip(0, 1);
  return rate.mul(kept.mul(1 - 1 / factor).add(1 / factor));
}
