/**
 * What the options of `lora` mean for each layer of a model.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  DTypeError,
  ShapeError,
  Tensor,
  type Tree,
  TreeError,
} from "../core/mod.ts";
import { type Adapters, isNamed } from "../nn/adapter_forms.ts";
import { formatWeight } from "../nn/quantized.ts";
import { isTied, kindOf, type Layer, layersOf, sizesOf } from "./layers.ts";
import type { LoraOptions } from "./options.ts";
import { fitsPattern, selectLayers, selectorOf } from "./targets.ts";

/** What is done to a layer. */
export interface Setting {
  /** R of its adapter; null where it has none. */
  readonly rank: number | null;
  /** Alpha of its adapter. */
  readonly alpha: number;
  /** Which of the slices of its weight are adapted; absent where the whole is. */
  readonly parts?: readonly boolean[];
  /** Tensors of which copies are trained. */
  readonly saves: readonly ("weight" | "bias")[];
}

/** What is done to each layer of a model, by path; nothing to those that are absent. */
export function settingsOf(
  params: Tree,
  options: LoraOptions,
): ReadonlyMap<string, Setting> {
  const layers = layersOf(params);
  const { rank, alpha, parts = {}, modulesToSave, bias = "none" } = options;
  const isSaved = modulesToSave === undefined
    ? () => false
    : selectorOf(modulesToSave, layers, true);
  const targets = selectLayers(params, options)
    .filter((layer) => !isSaved(layer));
  const paths = targets.map(({ path }) => path);
  const rankAt = byPattern("rankPattern", options.rankPattern, rank, paths);
  const alphaAt = byPattern("alphaPattern", options.alphaPattern, alpha, paths);
  const partsAt = partsByTarget(parts, targets);
  const settings = new Map<string, Setting>();
  for (const layer of layers) {
    const { path, node } = layer;
    const isTarget = paths.includes(path);
    const slices = partsAt(layer);
    const hasBias = node.bias instanceof Tensor &&
      (bias === "all" || bias === "lora_only" && isTarget);
    const saves = isSaved(layer)
      ? ["weight", "bias"] as const
      : hasBias
      ? ["bias"] as const
      : [];
    if (!isTarget && saves.length === 0) continue;
    if (isSaved(layer)) checkSaved(layer, layers);
    checkFree(layer, options.name);
    if (isTarget) checkWeight(layer, rankAt(path));
    settings.set(path, {
      rank: isTarget ? rankAt(path) : null,
      alpha: alphaAt(path),
      saves,
      ...(slices && { parts: slices }),
    });
  }
  return settings;
}

/** The value of the first pattern that fits a path. Throws `TreeError` where a pattern fits none. */
function byPattern(
  option: string,
  patterns: Readonly<Record<string, number>> = {},
  usual: number,
  paths: readonly string[],
): (path: string) => number {
  for (const key of Object.keys(patterns)) {
    if (paths.some((path) => fitsPattern(path, key))) continue;
    throw new TreeError(
      `Cannot adapt by ${option} "${key}": it matches none of the ${paths.length} targets, such as ${
        paths[0]
      }`,
    );
  }
  return (path) => {
    const match = Object.entries(patterns).find(([key]) =>
      fitsPattern(path, key)
    );
    return match ? match[1] : usual;
  };
}

/** The slices of a target by its name. Throws where a name takes no target, or the weight has no such slices. */
export function partsByTarget(
  parts: Readonly<Record<string, readonly boolean[]>>,
  targets: readonly Layer[],
): (layer: Layer) => readonly boolean[] | undefined {
  const tests = Object.entries(parts).map(([name, flags]) => {
    const takes = selectorOf(name, targets);
    for (const layer of targets.filter(takes)) checkParts(layer, flags);
    return { takes, flags };
  });
  return (layer) =>
    targets.some(({ path }) => path === layer.path)
      ? tests.find(({ takes }) => takes(layer))?.flags
      : undefined;
}

function checkParts(layer: Layer, flags: readonly boolean[]): void {
  const { out } = sizesOf(layer, kindOf(layer));
  if (flags.length > 1 && flags.includes(true) && out % flags.length === 0) {
    return;
  }
  throw new ShapeError(
    `Cannot adapt ${layer.path} by parts [${
      flags.join(", ")
    }]: its ${out} outputs must fall into two equal parts or more, one of them true at least`,
  );
}

function checkSaved(layer: Layer, layers: readonly Layer[]): void {
  if (!isTied(layer, layers)) return;
  throw new TreeError(
    `Cannot save ${layer.path} as a module: its table is the output head's weight too, which would stay as it is`,
  );
}

/** Throws where a layer has an adapter that another cannot stand beside. */
export function checkFree(
  { path, node }: Layer,
  name: string | undefined,
): void {
  const lora = node.lora as Adapters | null | undefined;
  if (lora === null || lora === undefined) return;
  if (name === undefined || !isNamed(lora)) {
    throw new TreeError(
      `Cannot adapt ${path}: it has an adapter already; use mergeAdapters or dropAdapters first${
        isNamed(lora) ? ", or give this one a name" : ""
      }`,
    );
  }
  if (name in lora) {
    throw new TreeError(
      `Cannot adapt ${path}: it has an adapter "${name}" already; use dropAdapters first, or another name`,
    );
  }
}

function checkWeight({ path, weight }: Layer, rank: number): void {
  if (!(weight instanceof Tensor)) return;
  if (["f32", "f16", "bf16"].includes(weight.dtype)) return;
  throw new DTypeError(
    `Cannot adapt ${path} of weight ${
      formatWeight(weight)
    } at rank ${rank}: it must be of floats`,
  );
}

/** Throws where a weight, or a slice of it, of these sizes has no such rank. */
export function checkRank(
  { path, weight }: Layer,
  rank: number,
  sizes: readonly number[],
): void {
  const most = Math.min(...sizes);
  if (Number.isInteger(rank) && rank >= 1 && rank <= most) return;
  throw new ShapeError(
    `Cannot adapt ${path} of weight ${
      formatWeight(weight)
    } at rank ${rank}: the rank must be an integer from 1 to ${most}`,
  );
}
