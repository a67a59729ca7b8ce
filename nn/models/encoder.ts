/**
 * Encoders in the manner of BERT: blocks that see both ways and norm after each sum, and models made of them.
 *
 * Letters: B batch, T time, C channels.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  DTypeError,
  format,
  scope,
  ShapeError,
  type Tensor,
  type Tree,
  TreeError,
} from "../../core/mod.ts";
import { attention } from "../attention.ts";
import { type Linear, linear } from "../linear.ts";
import { layerNorm, type Norm } from "../norm.ts";
import type { Activation } from "./activations.ts";
import { joinHeads, splitHeads } from "./heads.ts";
import { checkIds } from "./inputs.ts";
import type { ApplyOptions, Model, ModelConfig } from "./model.ts";
import { initialize, type ParameterTable, shapesOf } from "./parameters.ts";

/** The parts of a block, whatever a family calls them. */
export type EncoderBlock = {
  /** [C, C]. */
  readonly query: Linear;
  /** [C, C]. */
  readonly key: Linear;
  /** [C, C]. */
  readonly value: Linear;
  /** [C, C], after attention. */
  readonly out: Linear;
  /** After attention is added. */
  readonly attentionNorm: Norm;
  /** [intermediate, C]. */
  readonly up: Linear;
  /** [C, intermediate]. */
  readonly down: Linear;
  /** After the feed-forward layer is added. */
  readonly outputNorm: Norm;
};

/** What the blocks of a model share. */
export interface BlockOptions {
  /** Heads of attention. */
  readonly heads: number;
  /** Added to the variance in norms. */
  readonly eps: number;
  /** Inside the feed-forward layer. */
  readonly activation: Activation;
}

/** What an encoder is made of. */
export interface EncoderParts<P extends Tree> {
  /** With defaults filled in. */
  readonly config: ModelConfig & { readonly initializer_range: number };
  /** The parameters. */
  readonly table: ParameterTable;
  /** What the blocks share. */
  readonly block: BlockOptions;
  /** How many there are, and the field that says it. */
  readonly depth: { readonly field: string; readonly count: number };
  /** Largest T, and what says it. */
  readonly limit: { readonly field: string; readonly count: number };
  /** What the first block reads: [B, T, C]. */
  embed(params: P, ids: Tensor, tokenTypes: Tensor | null): Tensor;
  /** The parameters of the blocks. */
  blocks(params: P): readonly EncoderBlock[];
  /** What `apply` gives, from the last hidden state; null for that itself. */
  readonly head: ((params: P, hidden: Tensor) => Tensor) | null;
}

/** A model of its parts. */
export function encoder<P extends Tree>(parts: EncoderParts<P>): Model<P> {
  const { config, table, head } = parts;
  return {
    config,
    shapes: shapesOf(table),
    init: (key) => initialize(table, key, config.initializer_range) as P,
    apply: (params, ids, options = {}) =>
      scope(() => {
        const last = encode(parts, params, ids, options).at(-1)!;
        return head ? head(params, last) : last;
      }),
    hidden: (params, ids, options = {}) =>
      scope(() => encode(parts, params, ids, options)),
  };
}

/** The output of the embedding and of each block. */
function encode<P extends Tree>(
  parts: EncoderParts<P>,
  params: P,
  ids: Tensor,
  options: ApplyOptions,
): Tensor[] {
  const { depth, limit } = parts;
  checkIds(ids, 0, limit.count, limit.field);
  checkOptions(ids, options);
  const blocks = parts.blocks(params);
  if (blocks.length !== depth.count) {
    throw new TreeError(
      `Cannot apply the model: there are parameters of ${blocks.length} layers, and ${depth.field} is ${depth.count}`,
    );
  }
  const { mask = null, tokenTypes = null } = options;
  let x = parts.embed(params, ids, tokenTypes);
  const hidden = [x];
  for (const p of blocks) {
    hidden.push(x = scope(() => block(p, x, mask, parts.block)));
  }
  return hidden;
}

/** A block of Vaswani et al. (arXiv 1706.03762): norms come after the sums. */
function block(
  p: EncoderBlock,
  x: Tensor,
  mask: Tensor | null,
  { heads, eps, activation }: BlockOptions,
): Tensor {
  const [q, k, v] = [p.query, p.key, p.value].map((projection) =>
    splitHeads(linear(projection, x), heads)
  ) as [Tensor, Tensor, Tensor]; // [B, H, T, D]
  const seen = joinHeads(attention(q, k, v, { mask }));
  const mid = layerNorm(p.attentionNorm, x.add(linear(p.out, seen)), { eps });
  const inner = activation(linear(p.up, mid));
  return layerNorm(p.outputNorm, mid.add(linear(p.down, inner)), { eps });
}

function checkOptions(ids: Tensor, options: ApplyOptions): void {
  const { mask, tokenTypes, cache, position = 0 } = options;
  const [B, T] = ids.shape;
  for (const [name, x] of Object.entries({ mask, tokenTypes })) {
    if (!x || x.shape.length === 2 && x.shape[0] === B && x.shape[1] === T) {
      continue;
    }
    throw new ShapeError(
      `Cannot apply the model to ${format(ids)} with ${name} ${
        format(x)
      }: ${name} must be [${B}, ${T}]`,
    );
  }
  if (tokenTypes && tokenTypes.dtype !== "i32") {
    throw new DTypeError(
      `Cannot apply the model to ${format(ids)} with tokenTypes ${
        format(tokenTypes)
      }: tokenTypes are i32; use cast`,
    );
  }
  if (cache || position !== 0) {
    throw new TypeError(
      `Cannot apply the model to ${
        format(ids)
      } with a cache or a position: an encoder reads whole sequences`,
    );
  }
}
