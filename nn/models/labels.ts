/**
 * What a configuration tells about the labels of a classifier.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { type RawConfig, readConfig } from "./config.ts";

/** Number of labels: num_labels, or as many as id2label names, or 2. Throws where the problem is not a known one. */
export function countLabels(config: RawConfig, kind: string): number {
  const read = readConfig(config, kind);
  read.expect("problem_type", [
    "regression",
    "single_label_classification",
    "multi_label_classification",
  ]);
  const named = Object.keys(config.id2label ?? {}).length;
  return read.integer("num_labels", named || 2);
}
