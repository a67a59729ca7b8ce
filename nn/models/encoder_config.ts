/**
 * What the configurations of encoders have in common.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Problem } from "../classification_loss.ts";
import { activationNames } from "./activations.ts";
import type { ConfigReader } from "./config.ts";

/** Fields of a checked configuration that tell of labels. */
export type LabelFields = {
  /** Outputs of a classifier. */
  readonly num_labels: number;
  /** What a classifier learns, where the configuration says so. */
  readonly problem_type?: Problem | null;
};

/** What a family calls the fields that are checked here. */
interface FieldNames {
  readonly channels: string;
  readonly heads: string;
  readonly activation: string;
}

/** Refuses what no encoder here does, and heads that do not divide the channels. */
export function checkEncoder(
  read: ConfigReader,
  { channels, heads, activation }: FieldNames,
): void {
  read.expect("position_embedding_type", ["absolute"]);
  read.expect("is_decoder", [false]);
  read.expect("add_cross_attention", [false]);
  read.expect("quantization_config", []);
  read.expect(activation, activationNames);
  const [C, H] = [read.integer(channels), read.integer(heads)];
  if (C % H !== 0) {
    read.fail(`${channels} ${C} does not divide by ${heads} ${H}`);
  }
}
