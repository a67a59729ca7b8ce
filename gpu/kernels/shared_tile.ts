/**
 * Tiles of a matrix product in workgroup memory: what suits graphics processors.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Matrix } from "../../core/plan/kernel.ts";
import { affine } from "../shader.ts";
import { powerOfTwo, type Product, storeText, type Tile } from "./tile.ts";

// Inner elements that a tile holds at once.
const depth = 16;
const lanes = 128;

/** A tile of up to 64 rows and columns; an invocation has up to 8 rows of 4 columns. */
export function sharedTile(product: Product): Tile {
  const { kernel, m, n, shader } = product;
  const across = Math.min(16, powerOfTwo(n / 4));
  const below = lanes / across;
  const each = Math.min(8, powerOfTwo(m / below), Math.max(1, 64 / below));
  const rows = below * each;
  // One element of padding spreads a column over the banks.
  const pitch = rows + 1;
  shader.declare(`var<workgroup> tile_a: array<f32, ${depth * pitch}>;
var<workgroup> tile_b: array<vec4f, ${depth * across}>;`);

  const own = Array.from({ length: each }, (_, i) => i);
  const rank = kernel.shape.length;
  const columns = [0, 1, 2, 3].map((j) =>
    element(product, kernel.b, "k + inner", rank - 2, `at + ${j}u`, rank - 1)
  );
  const body = `let top = lane / ${across}u * ${each}u;
let left = lane % ${across}u;
${own.map((i) => `var acc${i} = vec4f();`).join("\n")}
for (var k = 0u; k < ${kernel.k}u; k += ${depth}u) {
for (var e = lane; e < ${depth * rows}u; e += ${lanes}u) {
${place(rows, kernel.a.view.strides[rank - 1] === 1)}
let at = row + outer;
tile_a[inner * ${pitch}u + outer] = ${
    element(product, kernel.a, "k + inner", rank - 1, "at", rank - 2)
  };
}
for (var e = lane; e < ${depth * across}u; e += ${lanes}u) {
${place(across, kernel.b.view.strides[rank - 2] === 1)}
let at = column + outer * 4u;
tile_b[inner * ${across}u + outer] = vec4f(${columns.join(", ")});
}
workgroupBarrier();
for (var inner = 0u; inner < ${depth}u; inner++) {
let b = tile_b[inner * ${across}u + left];
${
    own.map((i) =>
      `acc${i} = fma(vec4f(tile_a[inner * ${pitch}u + top + ${i}u]), b, acc${i});`
    ).join("\n")
  }
}
workgroupBarrier();
}
${
    own.map((i) =>
      storeText(product, `row + top + ${i}u`, "column + left * 4u", `acc${i}`)
    ).join("\n")
  }`;
  return { rows, columns: 4 * across, lanes, body };
}

/** Splits `e` so that neighbouring lanes read neighbouring elements. */
function place(outer: number, innerFirst: boolean): string {
  return innerFirst
    ? `let inner = e % ${depth}u;\nlet outer = e / ${depth}u;`
    : `let outer = e % ${outer}u;\nlet inner = e / ${outer}u;`;
}

/** An element of an operand, 0 outside. */
function element(
  { kernel, m, n, batch, shader }: Product,
  { buffer, view }: Matrix,
  k: string,
  innerAxis: number,
  at: string,
  outerAxis: number,
): string {
  const extent = outerAxis < innerAxis ? m : n;
  const address = affine(
    view.offset,
    [
      ...view.strides.slice(0, batch.length),
      view.strides[innerAxis]!,
      view.strides[outerAxis]!,
    ],
    [...batch, `(${k})`, `(${at})`],
  );
  const inside = `${k} < ${kernel.k}u && ${at} < ${extent}u`;
  return `select(0.0, ${shader.load(buffer, address)}, ${inside})`;
}
