/**
 * Classifiers of sequences on decoders: they read the last real token, which has seen all others.
 *
 * Letters: B batch, T time, C channels, L labels.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { iota, scope, type Tensor, type Tree, where } from "../../core/mod.ts";
import { type Linear, linear } from "../linear.ts";
import { type Decoder, modelOf, statesOf } from "./decoder.ts";
import { countLabels } from "./labels.ts";
import type { Model } from "./model.ts";
import { dense } from "./parameters.ts";

/** The parameters of a decoder with the head of a classifier. */
export type WithScore<P> = P & {
  /** [L, C]. */
  readonly score: Linear;
};

/**
 * A classifier: `apply` gives logits [B, L] of the last token that the mask says is real. Without a mask that is the
 * last that is not pad_token_id, or where the configuration has none, the last.
 */
export function decoderClassifier<P extends Tree>(
  decoder: Decoder<P>,
): Model<WithScore<P>> {
  const { channels, table } = decoder;
  const labels = countLabels(decoder.config, decoder.name);
  const config = { ...decoder.config, num_labels: labels };
  const pad = decoder.config.pad_token_id;
  const whole = { ...table, ...dense("score", labels, channels, false) };
  return {
    ...modelOf<WithScore<P>>({ ...decoder, config }, whole),
    apply: (params, ids, options = {}) =>
      scope(() => {
        const { hidden } = statesOf(decoder, params, ids, options);
        const real = options.mask ??
          (typeof pad === "number" ? ids.ne(pad) : null);
        return linear(params.score, lastOf(hidden.at(-1)!, real));
      }),
  };
}

/** What hidden states [B, T, C] are at the last place where `real` [B, T] is not 0, or at the last: [B, C]. */
function lastOf(hidden: Tensor, real: Tensor | null): Tensor {
  const T = hidden.shape[1]!;
  if (!real) return hidden.slice([null, [T - 1, T]]).squeeze(1);
  const bool = real.dtype === "bool" ? real : real.ne(0);
  const places = iota([T]);
  const last = where(bool, places, 0).max({ axis: -1, keepDims: true }); // [B, 1]
  // A sum over a mask and no gather: its gradient is a select, that of a gather a scatter.
  return where(places.eq(last).unsqueeze(-1), hidden, 0).sum({ axis: 1 });
}
