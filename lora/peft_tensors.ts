/**
 * The tensors of an adapter in PEFT's adapter_model.safetensors: their names and sizes.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { type Shape, Tensor } from "../core/mod.ts";
import { type Layer, type LayerKind, sizesOf } from "./layers.ts";

/** A leaf of an adapter that PEFT's files hold. */
export type TensorKey = "a" | "b" | "magnitude" | "weight" | "bias";

/** What stands before the path of a module. */
export const ROOT = "base_model.model.";

/** What follows it, by what it is; a layer that has an adapter keeps its own tensors in base_layer. */
const TENSOR =
  /\.(?:lora_[AB]\.(?:weight|bias)|lora_embedding_[AB]|lora_magnitude_vector|(?:base_layer\.)?weight|bias)$/;

/** Names of the tensors of a module. */
export function tensorNames(
  module: string,
  kind: LayerKind,
): Readonly<Record<TensorKey, string>> {
  const at = `${ROOT}${module}`;
  const isEmbedding = kind === "embedding";
  return {
    a: isEmbedding ? `${at}.lora_embedding_A` : `${at}.lora_A.weight`,
    b: isEmbedding ? `${at}.lora_embedding_B` : `${at}.lora_B.weight`,
    magnitude: `${at}.lora_magnitude_vector`,
    weight: `${at}.weight`,
    bias: `${at}.bias`,
  };
}

/** The name as `tensorNames` has it of a tensor in a file, which may lack the root. */
export function canonicalName(name: string): string {
  const rooted = name.startsWith(ROOT) ? name : ROOT + name;
  return rooted.replace(/\.base_layer\.(?=bias$)/, ".");
}

/** The modules that tensors of these names are of. */
export function modulesIn(names: readonly string[]): Set<string> {
  return new Set(
    names.map((name) => name.slice(ROOT.length).replace(TENSOR, "")),
  );
}

/** What a layer is to have of an adapter. */
export interface Wanted {
  /** Rank of its factors, or null where it has none. */
  readonly rank: number | null;
  /** Whether there are DoRA's magnitudes beside them. */
  readonly dora: boolean;
  /** Which of its own tensors are trained. */
  readonly saves: readonly ("weight" | "bias")[];
}

/** Sizes of the tensors that a layer is to have. */
export function wantedShapes(
  layer: Layer,
  kind: LayerKind,
  { rank, dora, saves }: Wanted,
): Partial<Record<TensorKey, Shape>> {
  const { into, out } = sizesOf(layer, kind);
  const own = saves.flatMap((key) => {
    const tensor = layer.node[key];
    return tensor instanceof Tensor ? [[key, tensor.shape]] : [];
  });
  return {
    ...(rank !== null && { a: [rank, into], b: [out, rank] }),
    ...(rank !== null && dora && { magnitude: [out] }),
    ...Object.fromEntries(own),
  };
}
