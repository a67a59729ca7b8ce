/**
 * What differs from block to block in the kin of Llama: the window, and whether there is a rotation.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { ConfigReader, RawConfig } from "./config.ts";
import type { LlamaFamily } from "./llama_families.ts";

/** What is particular to a block. */
export interface BlockKind {
  /** How many tokens back a token sees, itself included; null for all. */
  readonly window: number | null;
  /** Whether queries and keys are rotated by their positions. */
  readonly isRotated: boolean;
}

/** What is particular to each of `count` blocks. */
export function blockKinds(
  config: RawConfig,
  read: ConfigReader,
  family: LlamaFamily,
  count: number,
): BlockKind[] {
  const rotated = family.skipsRotations
    ? rotations(config, read, count)
    : new Array<boolean>(count).fill(true);
  const window = windowOf(config, read, family);
  const types = listOf(config, read, "layer_types", count);
  const isWindowed = (i: number): boolean => {
    if (types) return types[i] === "sliding_attention";
    if (family.windowed === "unrotated") return !rotated[i];
    if (family.windowed === "upper") {
      return i >= read.integer("max_window_layers", 28);
    }
    return true;
  };
  return rotated.map((isRotated, i) => ({
    window: window !== null && isWindowed(i) ? window : null,
    isRotated,
  }));
}

/** The width of windows, or null where no block has one. */
function windowOf(
  config: RawConfig,
  read: ConfigReader,
  family: LlamaFamily,
): number | null {
  if (family.windowed === "none") return null;
  if (family.windowed !== "all" && !read.flag("use_sliding_window", false)) {
    return null;
  }
  if (config.sliding_window === null) return null;
  if (config.sliding_window === undefined) return family.window;
  return read.integer("sliding_window");
}

/** Whether each block rotates: no_rope_layers has 1 for those that do. */
function rotations(
  config: RawConfig,
  read: ConfigReader,
  count: number,
): boolean[] {
  const given = listOf(config, read, "no_rope_layers", count);
  if (given) return given.map((flag) => Boolean(flag));
  const interval = read.integer("no_rope_layer_interval", 4);
  return Array.from({ length: count }, (_, i) => (i + 1) % interval !== 0);
}

/** A field that has an entry for each block, or null where it is absent. */
function listOf(
  config: RawConfig,
  read: ConfigReader,
  name: string,
  count: number,
): readonly unknown[] | null {
  const list = config[name] ?? null;
  if (list === null || Array.isArray(list) && list.length === count) {
    return list as unknown[] | null;
  }
  return read.fail(
    `${name} is ${
      JSON.stringify(list)
    }, and must have an entry for each of ${count} layers`,
  );
}
