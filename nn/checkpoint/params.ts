/**
 * The parameters of a model from tensors in files: each tensor is used and each parameter filled, or it is said what is not.
 *
 * @module
 */

import {
  format,
  jit,
  type Shape,
  type Tensor,
  type Tree,
  tree as trees,
} from "../../core/mod.ts";
import type { Model } from "../models/mod.ts";
import { unflatten } from "../models/parameters.ts";
import { checkFit } from "./fit.ts";
import { headsOf, pathsOf } from "./names.ts";
import { loadStored, type StoredTensor, type StreamOptions } from "./stream.ts";
import type { Weights } from "./weights.ts";

/** How parameters are loaded: `newHead` is a key for parameters of a head that the file lacks. */
type ParamsOptions = StreamOptions & { readonly newHead?: Tensor };

/** Reads the parameters of a model, after a check that they are what the files hold. */
export async function loadParams(
  { file, stored }: Weights,
  model: Model,
  options: ParamsOptions,
): Promise<Tree> {
  const { shapes } = model;
  const paths = pathsOf(model, stored.keys(), file);
  const expected = typesOf(Object.entries(shapes));
  const found = new Map<string, string>();
  const wanted: StoredTensor[] = [];
  for (const [name, one] of stored) {
    const path = paths.get(name);
    if (path === null) continue;
    const isHalf = one.dtype === "f16" || one.dtype === "bf16";
    const type = { dtype: isHalf ? "f32" : one.dtype, shape: one.shape };
    found.set(path ?? name, format(type));
    wanted.push({ ...one, name: path ?? name });
  }
  const { newHead } = options;
  const fresh = newHead ? setHeadsAside(model, expected, found) : [];
  const fix = newHead || !fitsWithoutHeads(model, expected, found)
    ? ""
    : "; these are heads alone: with newHead, a key, they start anew or are left out";
  checkFit(file, expected, found, { fix });
  const loaded = await loadStored(
    wanted.filter(({ name }) => found.has(name)),
    options,
  );
  const drawn = newHead && fresh.length > 0 ? draw(model, newHead, fresh) : {};
  return unflatten(
    Object.keys(shapes).map((path) => [path, (drawn[path] ?? loaded[path])!]),
  );
}

/** Takes out what is not loaded where there is a new head; returns the paths of what is to be drawn. */
function setHeadsAside(
  model: Model,
  expected: Map<string, string>,
  found: Map<string, string>,
): string[] {
  const isHead = headsOf(model);
  const fresh: string[] = [];
  for (const path of new Set([...expected.keys(), ...found.keys()])) {
    if (!isHead(path) || expected.get(path) === found.get(path)) continue;
    found.delete(path);
    if (expected.delete(path)) fresh.push(path);
  }
  return fresh;
}

function fitsWithoutHeads(
  model: Model,
  expected: ReadonlyMap<string, string>,
  found: ReadonlyMap<string, string>,
): boolean {
  const [rest, given] = [new Map(expected), new Map(found)];
  setHeadsAside(model, rest, given);
  return rest.size === given.size &&
    [...rest].every(([path, type]) => given.get(path) === type);
}

/** First values of some parameters; a program computes no others. */
function draw(
  model: Model,
  key: Tensor,
  paths: readonly string[],
): Record<string, Tensor> {
  using some = jit((key: Tensor) => {
    const leaves = trees.leaves(model.init(key));
    return leaves.filter(({ path }) => paths.includes(path))
      .map(({ leaf }) => leaf);
  });
  const drawn = some(key);
  const order = Object.keys(model.shapes).filter((path) =>
    paths.includes(path)
  );
  return Object.fromEntries(order.map((path, i) => [path, drawn[i]!]));
}

function typesOf(
  shapes: readonly (readonly [string, Shape])[],
): Map<string, string> {
  return new Map(
    shapes.map(([path, shape]) => [path, format({ dtype: "f32", shape })]),
  );
}
