/**
 * Which leaves of a tree are trained.
 *
 * This module is browser compatible.
 *
 * @module
 */

/**
 * Whether a path is that of a trainable leaf of an adapter: the selector for `tree.partition`.
 *
 * These are factors, DoRA's magnitudes, and copies of weights and biases that are trained whole; not scales, ranks, rates
 * and keys. Leaves of bottlenecks and prefixes are adapters too.
 *
 * @example
 * ```ts
 * import { assert, assertFalse } from "@std/assert";
 * import { isAdapter } from "cotan/lora";
 *
 * assert(isAdapter("model.layers.0.self_attn.q_proj.lora.a"));
 * assertFalse(isAdapter("model.layers.0.self_attn.q_proj.lora.scale"));
 * ```
 */
export function isAdapter(path: string): boolean {
  if (
    /(?:^|\.)(?:bottleneck\.(?:down|up)\.(?:weight|bias)|prefix)$/.test(path)
  ) {
    return true;
  }
  // Between them may stand the name of an adapter among several, and the number of a slice.
  return /(?:^|\.)lora\.(?:[^.]+\.)?(?:(?:slices\.)?\d+\.)?(?:a|b|magnitude|weight|bias)$/
    .test(path);
}
