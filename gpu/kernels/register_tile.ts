/**
 * Tiles of a matrix product in registers, fed straight from the buffers: what suits a rasterizer on the processor,
 * where a load costs much more than arithmetic.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Matrix } from "../../core/plan/kernel.ts";
import { sizeOf } from "../../core/shape.ts";
import { affine, isVector, type Shader } from "../shader.ts";
import { type Product, storeText, type Tile } from "./tile.ts";

const lanes = 8;
// Operations from which on tiles of twice the size, faster by a fifth, make up for the time it takes to compile them.
const large = 2 ** 31;
const components = ["x", "y", "z", "w"];

/** A tile of `lanes` invocations side by side, each with up to 16 rows and columns. */
export function registerTile(product: Product): Tile {
  const { kernel, m, n, batch, shader } = product;
  const most = 2 * sizeOf(kernel.shape) * kernel.k < large ? 32 : 64;
  const { rows, quads, across } = cheapest(m, n, most);
  const below = lanes / across;

  const a = operand("x", kernel.a, shader, batch, {
    outer: kernel.shape.length - 2,
    inner: kernel.shape.length - 1,
    positions: range(rows).map((i) => `top + ${i}u`),
    extent: m,
    mayExceed: m % (rows * below) !== 0,
  });
  const b = operand("y", kernel.b, shader, batch, {
    outer: kernel.shape.length - 1,
    inner: kernel.shape.length - 2,
    positions: range(4 * quads).map((j) =>
      `left + ${Math.floor(j / 4) * 4 * across + j % 4}u`
    ),
    extent: n,
    mayExceed: n % (4 * quads * across) !== 0,
  });
  const cells = range(rows).flatMap((i) =>
    range(quads).map((t) => ({ i, t, name: `acc${i}_${t}` }))
  );
  const products = (k: string, count: number): string[] => [
    ...a.load(k, count),
    ...b.load(k, count),
    ...range(count).flatMap((u) =>
      cells.map(({ i, t, name }) =>
        `${name} = fma(vec4f(${a.element(i, u)}), ${b.quad(t, u)}, ${name});`
      )
    ),
  ];

  const groups = Math.floor(kernel.k / 4);
  const body = [
    // The row must not depend on the lane where it need not: loads of a are then the same for all lanes.
    `let top = row${below === 1 ? "" : ` + lane / ${across}u * ${rows}u`};`,
    `let left = column + lane % ${across}u * 4u;`,
    ...a.addresses,
    ...b.addresses,
    ...cells.map(({ name }) => `var ${name} = vec4f();`),
    `for (var k = 0u; k < ${groups}u; k++) {`,
    ...products("k", 4),
    "}",
    ...products(`${groups}u`, kernel.k % 4),
    ...cells.map(({ i, t, name }) =>
      storeText(product, `top + ${i}u`, `left + ${4 * t * across}u`, name)
    ),
  ].join("\n");
  return { rows: rows * below, columns: 4 * quads * across, lanes, body };
}

/** How the invocations of a workgroup share a tile. */
interface Split {
  /** Rows of an invocation. */
  readonly rows: number;
  /** Groups of four columns of an invocation. */
  readonly quads: number;
  /** Invocations side by side; the others stand below one another. */
  readonly across: number;
}

/** The split of at most so many accumulators that costs least, tiles that reach over the edge included. */
function cheapest(m: number, n: number, most: number): Split {
  let best: Split | null = null;
  let least = Infinity;
  for (const rows of [4, 8, 16]) {
    for (const quads of [1, 2, 3, 4]) {
      for (const across of [8, 4, 2, 1]) {
        const tiles = Math.ceil(m * across / (rows * lanes)) *
          Math.ceil(n / (4 * quads * across));
        // Measured: a load of four numbers costs as much as 40 multiplications and additions.
        const cost = tiles * (rows + 4 * quads + 0.4 * rows * quads);
        if (rows * quads <= most && cost < least) {
          best = { rows, quads, across };
          least = cost;
        }
      }
    }
  }
  return best!;
}

/** How an invocation reads its part of an operand; the inner axis goes in groups of four. */
interface Operand {
  /** Declarations of addresses. */
  readonly addresses: readonly string[];
  /** Statements that load the first `count` inner elements of group `k` at all positions. */
  load(k: string, count: number): string[];
  /** The inner element `u` of the group at a position. */
  element(position: number, u: number): string;
  /** The inner element `u` of the group at four positions from 4t on. */
  quad(t: number, u: number): string;
}

/** Which axes of a view are which, and where along the outer one the invocation reads. */
interface Part {
  /** The axis of rows of a or columns of b. */
  readonly outer: number;
  /** The axis that is summed over. */
  readonly inner: number;
  /** Positions on the outer axis, of which each four are neighbours. */
  readonly positions: readonly string[];
  /** Extent of the outer axis. */
  readonly extent: number;
  /** Whether positions may lie outside; what is read there is not stored. */
  readonly mayExceed: boolean;
}

function operand(
  name: string,
  { buffer, view }: Matrix,
  shader: Shader,
  batch: readonly string[],
  { outer, inner, positions, extent, mayExceed }: Part,
): Operand {
  const outside = view.strides.slice(0, batch.length);
  const step = view.strides[inner]!;
  const vector = shader.vectors.has(buffer);
  const unit = vector ? 4 : 1;
  const alongOuter = vector && !isVector(view, inner);
  const count = positions.length / (alongOuter ? 4 : 1);
  const every = (f: (o: number) => string): string[] => range(count).map(f);

  const address = (o: number): string => {
    const at = positions[alongOuter ? 4 * o : o]!;
    const last = alongOuter ? 4 * Math.ceil(extent / 4) - 4 : extent - 1;
    const near = mayExceed ? `min(${at}, ${last}u)` : `(${at})`;
    return affine(
      view.offset / unit,
      [
        ...outside.map((s) => s / unit),
        alongOuter ? 1 : view.strides[outer]! / unit,
      ],
      [...batch, alongOuter ? `${near} / 4u` : near],
    );
  };
  const read = (o: number, k: string, u: number): string => {
    const strides = [1, 4 * step / unit, u * step / unit];
    return shader.load(buffer, affine(0, strides, [`${name}${o}`, k, "1u"]));
  };
  const element = (o: number, u: number): string => {
    if (!vector) return `${name}${o}_${u}`;
    return alongOuter
      ? `${name}${o >> 2}_${u}.${components[o % 4]}`
      : `${name}${o}_v.${components[u]}`;
  };
  const load = (k: string, count: number): string[] =>
    vector && !alongOuter
      ? every((o) =>
        `let ${name}${o}_v = ${shader.load(buffer, `${name}${o} + ${k}`)};`
      )
      : range(count).flatMap((u) =>
        every((o) => `let ${name}${o}_${u} = ${read(o, k, u)};`)
      );
  return {
    addresses: every((o) => `let ${name}${o} = ${address(o)};`),
    load: (k, count) => count === 0 ? [] : load(k, count),
    element,
    quad: (t, u) =>
      alongOuter
        ? `${name}${t}_${u}`
        : `vec4f(${range(4).map((j) => element(4 * t + j, u)).join(", ")})`,
  };
}

function range(n: number): number[] {
  return Array.from({ length: n }, (_, i) => i);
}
