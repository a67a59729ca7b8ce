/**
 * The rotary embedding as config.json describes it.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { RopeScaling } from "../rope.ts";
import { type RawConfig, readConfig } from "./config.ts";

/** The base, and how rates are scaled. */
export interface RopeFields {
  readonly base: number;
  readonly scaling: RopeScaling | null;
}

/**
 * Reads rope_theta, and rope_scaling or, as transformers 5 writes it with the base inside, rope_parameters.
 *
 * Throws `FormatError` for kinds of scaling that are not supported. `kind` is that of the model, `base` the default.
 */
export function readRope(
  config: RawConfig,
  kind: string,
  base: number,
): RopeFields {
  const name = config.rope_scaling ? "rope_scaling" : "rope_parameters";
  const fields = (config[name] ?? {}) as RawConfig;
  const at = (field: string): string => `${name}.${field}`;
  // Under their full names, so that errors tell where they stand.
  const inner = Object.fromEntries(
    Object.entries(fields).map(([field, value]) => [at(field), value]),
  );
  const typeField = fields.rope_type === undefined ? "type" : "rope_type";
  const read = readConfig({ ...config, ...inner }, kind);
  read.expect(at(typeField), ["default", "linear", "llama3"]);
  read.expect(at("partial_rotary_factor"), [1]);
  read.expect("partial_rotary_factor", [1]);
  const { rope_theta } = (config.rope_parameters ?? {}) as RawConfig;
  return {
    base: read.positive("rope_theta", rope_theta as number ?? base),
    scaling: scaling(),
  };

  function scaling(): RopeScaling | null {
    const type = fields[typeField] ?? "default";
    if (type === "default") return null;
    const factor = read.positive(at("factor"));
    if (type === "linear") return { rope_type: "linear", factor };
    const low = read.positive(at("low_freq_factor"));
    const high = read.positive(at("high_freq_factor"));
    if (low >= high) {
      read.fail(
        `${at("low_freq_factor")} is ${low}, and must be below ${
          at("high_freq_factor")
        } ${high}`,
      );
    }
    return {
      rope_type: "llama3",
      factor,
      low_freq_factor: low,
      high_freq_factor: high,
      original_max_position_embeddings: read.integer(
        at("original_max_position_embeddings"),
      ),
    };
  }
}
