/**
 * What is asked of every kind of generation: a causal model, prompts that fit in, and when to end.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { ShapeError, type Tree } from "../../core/mod.ts";
import { type CausalModel, isCausal, type Model } from "../models/mod.ts";

/** Options of every kind of generation. */
export interface RequestOptions {
  /** Most tokens that are generated. */
  readonly maxNewTokens: number;
  /** Ids that end the generation; the one that does is given out as the last. */
  readonly stop?: number | readonly number[];
  /** Ends the generation with its reason as the error. */
  readonly signal?: AbortSignal;
}

/** The model as a causal one; throws `TypeError` for another. */
export function causal<P extends Tree>(model: Model<P>): CausalModel<P> {
  if (isCausal(model)) return model;
  throw new TypeError(
    `Cannot generate with a ${
      model.config.model_type ?? "model"
    } that is no causal language model: it has no step`,
  );
}

/** Checks options and prompts, `row` of which stands in errors where there are several. */
export function checkRequest(
  { config }: Model,
  prompts: readonly (readonly number[])[],
  options: RequestOptions,
  row: (index: number) => string = () => "",
): void {
  const { maxNewTokens } = options;
  if (!Number.isInteger(maxNewTokens) || maxNewTokens < 0) {
    throw new RangeError(
      `Cannot generate ${maxNewTokens} tokens: maxNewTokens must be a non-negative integer`,
    );
  }
  for (const id of stopIds(options)) {
    if (Number.isInteger(id)) continue;
    throw new RangeError(`Cannot stop at id ${id}: ids are integers`);
  }
  prompts.forEach((prompt, i) =>
    checkPrompt(config, prompt, maxNewTokens, row(i))
  );
}

function checkPrompt(
  { vocab_size, max_position_embeddings }: Model["config"],
  prompt: readonly number[],
  maxNewTokens: number,
  row: string,
): void {
  if (prompt.length === 0) {
    throw new RangeError(
      `Cannot generate after an empty prompt${row}: start from the id that begins a text`,
    );
  }
  for (const id of prompt) {
    if (Number.isInteger(id) && id >= 0 && id < vocab_size) continue;
    throw new RangeError(
      `Cannot generate after id ${id}${row}: ids are integers from 0 to ${
        vocab_size - 1
      }`,
    );
  }
  const needed = prompt.length + maxNewTokens;
  if (needed > max_position_embeddings) {
    throw new ShapeError(
      `Cannot generate ${maxNewTokens} tokens after ${prompt.length}${row}: ${needed} positions exceed max_position_embeddings ${max_position_embeddings}`,
    );
  }
}

/** The ids that end a generation. */
export function stopIds({ stop }: RequestOptions): readonly number[] {
  return [stop ?? []].flat();
}
