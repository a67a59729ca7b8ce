/**
 * What the configurations of encoders have in common.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Problem } from "../classification_loss.ts";
import { activationNames } from "./activations.ts";
import type { ConfigReader, RawConfig } from "./config.ts";

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

/** Refuses what no encoder here does, and gives the number of labels: num_labels, or as many as id2label has, or 2. */
export function checkEncoder(
  config: RawConfig,
  read: ConfigReader,
  { channels, heads, activation }: FieldNames,
): LabelFields {
  read.expect("position_embedding_type", ["absolute"]);
  read.expect("is_decoder", [false]);
  read.expect("add_cross_attention", [false]);
  read.expect("quantization_config", []);
  read.expect(activation, activationNames);
  const [C, H] = [read.integer(channels), read.integer(heads)];
  if (C % H !== 0) {
    read.fail(`${channels} ${C} does not divide by ${heads} ${H}`);
  }
  read.expect("problem_type", [
    "regression",
    "single_label_classification",
    "multi_label_classification",
  ]);
  const named = Object.keys(config.id2label ?? {}).length;
  return { num_labels: read.integer("num_labels", named || 2) };
}
