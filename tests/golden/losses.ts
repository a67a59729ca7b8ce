/**
 * The losses behind the golden files: of language models, causal or masked, and of classifiers.
 *
 * @module
 */

import { type Tensor, tensor, type Tree } from "cotan";
import {
  classificationLoss,
  crossEntropy,
  type Model,
  type RawConfig,
} from "cotan/nn";

/** What a model is given, as inputs.json has it. */
export interface Inputs {
  readonly input_ids: number[][];
  readonly attention_mask: number[][];
  readonly token_type_ids?: number[][];
  /** Of each token, or of each sequence: a class, or a number to regress. */
  readonly labels: number[] | number[][];
}

/** The same as tensors. */
export type Batch = {
  readonly ids: Tensor;
  readonly mask: Tensor;
  readonly tokenTypes: Tensor | null;
  readonly labels: Tensor;
};

/** Tensors of the inputs of a model. */
export function batchOf(inputs: Inputs, config: RawConfig): Batch {
  const ints = (rows: number[] | number[][]): Tensor =>
    tensor(rows, { dtype: "i32" });
  const { input_ids, attention_mask, token_type_ids, labels } = inputs;
  return {
    ids: ints(input_ids),
    mask: ints(attention_mask),
    tokenTypes: token_type_ids ? ints(token_type_ids) : null,
    labels: isRegression(config) ? tensor(labels) : ints(labels),
  };
}

/** The loss that a model's architecture is trained with. */
export function lossOf(
  model: Model,
  config: RawConfig,
): (params: Tree, batch: Batch) => Tensor {
  const isCausalModel = /CausalLM|LMHead/.test(String(config.architectures));
  return (params, { ids, labels, ...options }) => {
    const out = model.apply(params, ids, options);
    if (!isCausalModel) return classificationLoss(out, labels);
    const T = ids.shape[1]!;
    return crossEntropy(
      out.slice([null, [0, T - 1]]),
      labels.slice([null, [1, T]]),
    );
  };
}

function isRegression({ architectures, num_labels }: RawConfig): boolean {
  return /Classification/.test(String(architectures)) && num_labels === 1;
}
