/**
 * Models, and the choice of one by its configuration.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { FormatError } from "../../core/mod.ts";
import type { RawConfig } from "./config.ts";
import { llama } from "./llama.ts";
import type { LlamaConfig } from "./llama_config.ts";
import type { Model } from "./model.ts";

export type { Cache, LayerCache } from "./cache.ts";
export type { RawConfig } from "./config.ts";
export { llama } from "./llama.ts";
export type { LlamaConfig } from "./llama_config.ts";
export type { LlamaLayer, LlamaParams } from "./llama_params.ts";
export {
  type ApplyOptions,
  type CausalModel,
  isCausal,
  type Model,
  type ModelConfig,
  type StepOptions,
  type StepResult,
} from "./model.ts";

/** Models by the name that config.json gives in `architectures`. */
const architectures: Readonly<Record<string, (config: RawConfig) => Model>> = {
  LlamaForCausalLM: (config) => llama(config as LlamaConfig),
};

/**
 * The model that a config.json describes, by its first architecture.
 *
 * Throws `FormatError` for an architecture that is not there, and lists those that are.
 *
 * @example
 * ```ts
 * import { assertThrows } from "@std/assert";
 * import { FormatError } from "cotan";
 * import { modelFromConfig } from "cotan/nn";
 *
 * assertThrows(() => modelFromConfig({ architectures: ["Other"] }), FormatError, "LlamaForCausalLM");
 * ```
 */
export function modelFromConfig(config: RawConfig): Model {
  const { architectures: names } = config;
  const name = Array.isArray(names) ? names[0] : undefined;
  const build = Object.hasOwn(architectures, String(name))
    ? architectures[String(name)]
    : undefined;
  if (build) return build(config);
  throw new FormatError(
    `Cannot build a model of architecture ${
      JSON.stringify(name) ?? "undefined"
    }: there are ${Object.keys(architectures).join(", ")}`,
  );
}
