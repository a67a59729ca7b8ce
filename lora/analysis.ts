/**
 * What adapters have learned: the singular values of their changes, the directions that they amplify, and how alike the
 * subspaces of two are (LoRA, arXiv 2106.09685, section 7).
 *
 * Letters: R rank; `in` and `out` are the features of a layer.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  scope,
  type Tensor,
  tensor,
  type Tree,
  TreeError,
} from "../core/mod.ts";
import type { Lora } from "../nn/adapter_forms.ts";
import { dense } from "../nn/quantized.ts";
import { columnsOf, svdOf } from "./combine.ts";
import { kindOf, type Layer, oriented } from "./layers.ts";
import { mapLoras } from "./loras.ts";
import { type Columns, svdOfProduct } from "./svd.ts";
import { table } from "./text_table.ts";

/** What an adapter has learned. */
export interface LayerAnalysis {
  /** Path of the adapter's node; of a slice, with its number. */
  readonly path: string;
  /** Singular values of its change ΔW = scale · b a, largest first. */
  readonly singularValues: readonly number[];
  /** ‖ΔW‖, the Frobenius norm. */
  readonly change: number;
  /** ‖Uᵀ W V‖: what the weight itself has in the singular directions of ΔW. */
  readonly projected: number;
  /** ‖ΔW‖ / ‖Uᵀ W V‖: how much the directions that the task needs are amplified. */
  readonly amplification: number;
}

/** What the adapters of a model have learned. */
export interface Analysis {
  /** One for each adapter. */
  readonly rows: readonly LayerAnalysis[];
  /** The table. */
  toString(): string;
}

/**
 * The singular values of each adapter's change, and its amplification factor (section 7.3). Factors are read back, and
 * decomposed on the host.
 *
 * Throws `TreeError` where there is no adapter, or one by name: choose by `activate`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "cotan";
 * import { analyse } from "cotan/lora";
 *
 * const tuned = {
 *   weight: tensor([[1, 0], [0, 2]]),
 *   lora: { a: tensor([[1, 0]]), b: tensor([[3], [0]]), scale: tensor(2) },
 * };
 * const { rows: [row] } = await analyse({ q: tuned });
 * assertEquals([row!.singularValues, row!.amplification], [[6], 6]);
 * ```
 */
export async function analyse(tuned: Tree): Promise<Analysis> {
  const rows: LayerAnalysis[] = [];
  for (const { path, lora, weight } of adaptersOf(tuned, "analyse adapters")) {
    const { u, s, v } = await svdOf(lora);
    const scale = await lora.scale.item();
    const singularValues = s.map((value) => Math.abs(scale) * value);
    const change = Math.hypot(...singularValues);
    using inside = scope(() =>
      matrix(u).matmul(weight()).matmul(matrix(v).transpose())
        .square().sum().sqrt()
    );
    const projected = await inside.item();
    const amplification = change / projected;
    rows.push({ path, singularValues, change, projected, amplification });
  }
  const lines = rows.map((row) => [
    row.path,
    row.change.toPrecision(4),
    row.projected.toPrecision(4),
    row.amplification.toPrecision(4),
    row.singularValues.slice(0, 4).map((s) => s.toPrecision(3)).join(" "),
  ]);
  const heads = ["adapter", "‖ΔW‖", "‖UᵀWV‖", "amplified", "singular values"];
  return { rows, toString: () => table([heads, ...lines]) };
}

/** How alike the subspaces of two adapters of a layer are. */
export interface Similarity {
  /** Path of the adapters' node; of a slice, with its number. */
  readonly path: string;
  /** φ(i, j) at [i - 1][j - 1], from 0 for orthogonal subspaces to 1 where one holds the other. */
  readonly grid: readonly (readonly number[])[];
}

/**
 * Subspace similarity of the adapters of two trees of one model, layer by layer: φ(i, j) = ‖Uᵢᵀ Uⱼ‖² / min(i, j), with
 * the first i right singular vectors of one A and the first j of the other (section 7.2, equation 4).
 *
 * Throws `TreeError` where the trees differ in their adapted layers.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { eye, tensor } from "cotan";
 * import { subspaceSimilarity } from "cotan/lora";
 *
 * const make = (a: number[][]) => ({
 *   weight: eye(2),
 *   lora: { a: tensor(a), b: tensor([[1], [1]]), scale: tensor(1) },
 * });
 * const one = make([[1, 0]]), other = make([[0, 1]]);
 * assertEquals((await subspaceSimilarity(one, one))[0]!.grid, [[1]]);
 * assertEquals((await subspaceSimilarity(one, other))[0]!.grid, [[0]]);
 * ```
 */
export async function subspaceSimilarity(
  one: Tree,
  other: Tree,
): Promise<Similarity[]> {
  const what = "compare adapters";
  const [first, second] = [one, other].map((tree) => adaptersOf(tree, what));
  const paths = [first!, second!].map((list) =>
    list.map(({ path }) => path).join(", ")
  );
  if (paths[0] !== paths[1]) {
    throw new TreeError(
      `Cannot ${what}: one tree has them at ${paths[0]}, and the other at ${
        paths[1]
      }`,
    );
  }
  return await Promise.all(first!.map(async ({ path, lora }, n) => {
    const [x, y] = await Promise.all(
      [lora, second![n]!.lora].map(({ a }) => rightVectors(a)),
    );
    return { path, grid: similarities(x!, y!) };
  }));
}

/** An adapter, and the weight [out, in] that it changes. */
interface Found {
  readonly path: string;
  readonly lora: Lora;
  weight(): Tensor;
}

function adaptersOf(tuned: Tree, what: string): Found[] {
  const found: Found[] = [];
  mapLoras(tuned, what, (lora, at, layer) => {
    const place = at.slice(layer.path === "" ? 4 : layer.path.length + 5);
    if (!/^(?:\.(?:slices\.)?\d+)?$/.test(place)) {
      throw new TreeError(
        `Cannot ${what}: those at ${layer.path} have names; choose one by activate`,
      );
    }
    const slice = /\d+$/.exec(place)?.[0];
    found.push({
      path: slice === undefined ? layer.path : `${layer.path}.${slice}`,
      lora,
      weight: () => weightOf(layer, lora, Number(slice ?? 0)),
    });
    return lora;
  });
  return found;
}

function weightOf(layer: Layer, { b }: Lora, slice: number): Tensor {
  const whole = oriented(dense(layer.weight), kindOf(layer));
  const size = b.shape[0]!;
  return whole.slice([[slice * size, (slice + 1) * size]]);
}

/** Columns as the rows of a tensor. */
function matrix(columns: Columns): Tensor {
  return tensor(columns.map((column) => [...column]));
}

/** The right singular vectors of a [R, in], those of the largest values first. */
async function rightVectors(a: Tensor): Promise<Columns> {
  const rows = await columnsOf(a);
  const unit = rows.map((_, i) =>
    Float64Array.from(rows, (_, j) => i === j ? 1 : 0)
  );
  return svdOfProduct(unit, rows).v;
}

function similarities(x: Columns, y: Columns): number[][] {
  const squares = x.map((u) =>
    y.map((v) => u.reduce((sum, value, k) => sum + value * v[k]!, 0) ** 2)
  );
  return x.map((_, i) =>
    y.map((_, j) => {
      let sum = 0;
      for (const row of squares.slice(0, i + 1)) {
        for (const square of row.slice(0, j + 1)) sum += square;
      }
      return sum / Math.min(i + 1, j + 1);
    })
  );
}
