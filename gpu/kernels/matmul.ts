/**
 * Matrix products in tiles: what the two ways of tiling share, which is the place of a tile and the stores.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { MatmulKernel } from "../../core/plan/kernel.ts";
import { sizeOf } from "../../core/shape.ts";
import { accessesOf } from "../expr.ts";
import type { Schedule } from "../schedule.ts";
import { Block } from "../block.ts";
import { isVector, type Section, type Shader, splitIndex } from "../shader.ts";
import { registerTile } from "./register_tile.ts";
import { sharedTile } from "./shared_tile.ts";
import type { Product } from "./tile.ts";

/** The code of a matrix product. */
export function matmulSection(
  kernel: MatmulKernel,
  shader: Shader,
  schedule: Schedule,
): Section {
  const rank = kernel.shape.length;
  const [m, n] = [kernel.shape[rank - 2]!, kernel.shape[rank - 1]!];
  const outer = kernel.shape.slice(0, -2);
  const batch = outer.map((_, axis) => `i${axis}`);
  shader.declare(storeFunction(shader, kernel, batch));

  const product: Product = { kernel, m, n, batch, shader };
  const tile = schedule.matmul.tiles === "register"
    ? registerTile(product)
    : sharedTile(product);
  const grid = [
    ...outer,
    Math.ceil(n / tile.columns),
    Math.ceil(m / tile.rows),
  ];
  // Rows fastest: neighbouring workgroups then read the same columns of b.
  const body = `${splitIndex("group", grid, [...batch, "over", "down"])}
let row = down * ${tile.rows}u;
let column = over * ${tile.columns}u;
${tile.body}`;
  return { workgroups: sizeOf(grid), lanes: tile.lanes, body };
}

/** Buffers that a matrix product takes as vectors: those whose operands and results are all aligned. */
export function matmulVectors(
  { shape, a, b, outputs }: MatmulKernel,
  schedule: Schedule,
): Set<number> {
  const rank = shape.length;
  const accesses = accessesOf(outputs);
  const vectors = new Set(
    [a.buffer, b.buffer, ...accesses.map(({ buffer }) => buffer)],
  );
  for (const { buffer, view } of [a, b]) {
    const fits = schedule.matmul.tiles === "register" &&
      (isVector(view, rank - 1) || isVector(view, rank - 2));
    if (!fits) vectors.delete(buffer);
  }
  for (const { buffer, view } of accesses) {
    const fits = shape[rank - 1]! % 4 === 0 && isVector(view, rank - 1);
    if (!fits) vectors.delete(buffer);
  }
  return vectors;
}

/** The function that computes and stores the outputs at four neighbouring columns. */
function storeFunction(
  shader: Shader,
  { shape, outputs }: MatmulKernel,
  batch: readonly string[],
): string {
  const [m, n] = [shape[shape.length - 2]!, shape[shape.length - 1]!];
  const whole = n % 4 === 0;
  const index = [...batch, "row", whole ? "quad" : "column"];
  const lanes = whole ? shape.length - 1 : null;
  const block = new Block(shader, { index, lanes, accs: ["total"] });
  block.store(outputs);
  const stores = block.take();
  const parameters = (last: string): string =>
    [...batch.map((name) => `${name}: u32`), "row: u32", last].join(", ");
  if (whole) {
    return `fn store(${parameters("first: u32, total: vec4f")}) {
if (row >= ${m}u || first >= ${n}u) { return; }
let quad = first / 4u;
${stores}
}`;
  }
  const given = [...batch, "row"].join(", ");
  return `fn store_one(${parameters("column: u32, total: f32")}) {
if (row >= ${m}u || column >= ${n}u) { return; }
${stores}
}
fn store(${parameters("first: u32, total: vec4f")}) {
store_one(${given}, first, total.x);
store_one(${given}, first + 1u, total.y);
store_one(${given}, first + 2u, total.z);
store_one(${given}, first + 3u, total.w);
}`;
}
