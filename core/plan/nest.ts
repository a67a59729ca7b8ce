/**
 * Nests: kernels as the planner merges them, with reductions and stores in no order yet.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Shape } from "../shape.ts";
import { buffersOfMatrix, leafMapper, visitExpr } from "./expression.ts";
import type {
  Expr,
  MatmulKernel,
  Output,
  Pass,
  Reduction,
  SimpleKernel,
} from "./kernel.ts";

/** Where in a nest something happens: at each point of all loops, or once for each row of a reduction. */
export type Level = "element" | "row";

/** A map, a reduction or a product. An `acc` of its expressions is one of `reductions` by number, or the product. */
export interface Nest {
  /** Outer loops. */
  readonly shape: Shape;
  /** Reduced loops. */
  readonly over: Shape;
  /** Which axis of the space that it came from each loop is. */
  readonly axes: readonly number[];
  /** The matrix product whose epilogue the stores are. */
  readonly product: MatmulKernel | null;
  /** Accumulators; bodies read those of lower numbers only. */
  readonly reductions: readonly Reduction[];
  /** Stores at each point. */
  readonly element: readonly Output[];
  /** Stores for each row, after the reductions. */
  readonly row: readonly Output[];
}

/** All loops of a nest. */
export function loopsOf({ shape, over }: Nest): Shape {
  return [...shape, ...over];
}

/** The nest of a kernel whose loops are these axes of the space it came from; null for a scatter or a fused one. */
export function nestOf(
  kernel: SimpleKernel,
  axes: readonly number[],
): Nest | null {
  if (kernel.kind === "scatter" || kernel.kind === "fused") return null;
  const { shape, outputs } = kernel;
  const nest = { shape, over: [], axes, product: null, reductions: [] };
  switch (kernel.kind) {
    case "map":
      return { ...nest, element: outputs, row: [] };
    case "matmul":
      return { ...nest, product: kernel, element: outputs, row: [] };
    case "reduce":
      return {
        ...nest,
        over: kernel.over,
        reductions: kernel.passes.flatMap((p) => p.reductions),
        element: kernel.passes.flatMap((p) => p.outputs),
        row: outputs,
      };
  }
}

/** The kernel of a nest: reductions and stores go into the first walk in which all that they read is known. */
export function kernelOf(nest: Nest): SimpleKernel {
  const { shape, over, product, reductions, element, row } = nest;
  if (product) return { ...product, outputs: element };
  if (reductions.length === 0) return { kind: "map", shape, outputs: element };
  const passOf: number[] = [];
  for (const { body } of reductions) passOf.push(firstPass(body, passOf));
  const count = 1 + Math.max(
    ...passOf,
    ...element.map(({ expr }) => firstPass(expr, passOf)),
  );
  const order = passOf.map((_, i) => i).sort((i, j) =>
    passOf[i]! - passOf[j]! || i - j
  );
  const renumber = leafMapper((e) =>
    e.kind === "acc" ? { ...e, index: order.indexOf(e.index) } : e
  );
  const renumbered = (outputs: readonly Output[]): Output[] =>
    outputs.map((o) => ({ ...o, expr: renumber(o.expr)! }));
  const passes = Array.from({ length: count }, (_, pass): Pass => ({
    reductions: order.filter((i) => passOf[i] === pass).map((i) => ({
      combine: reductions[i]!.combine,
      body: renumber(reductions[i]!.body)!,
    })),
    outputs: renumbered(
      element.filter(({ expr }) => firstPass(expr, passOf) === pass),
    ),
  }));
  return { kind: "reduce", shape, over, passes, outputs: renumbered(row) };
}

/** The first walk in which an expression can be computed. */
function firstPass(expr: Expr, passOf: readonly number[]): number {
  let pass = 0;
  visitExpr(expr, (e) => {
    if (e.kind === "acc") pass = Math.max(pass, 1 + passOf[e.index]!);
  });
  return pass;
}

/** A nest without the stores to some buffers. */
export function withoutStores(
  nest: Nest,
  isDead: (buffer: number) => boolean,
): Nest {
  const live = (outputs: readonly Output[]): Output[] =>
    outputs.filter(({ buffer }) => !isDead(buffer));
  return { ...nest, element: live(nest.element), row: live(nest.row) };
}

/** Every buffer that a nest stores to. */
export function storedBy({ element, row }: Nest): number[] {
  return [...element, ...row].map(({ buffer }) => buffer);
}

/** Every buffer that a nest reads. */
export function readByNest({ product, reductions, element, row }: Nest): Set<
  number
> {
  const buffers = new Set<number>();
  if (product) {
    for (const x of [product.a, product.b]) {
      for (const id of buffersOfMatrix(x)) buffers.add(id);
    }
  }
  const exprs = [
    ...reductions.map(({ body }) => body),
    ...[...element, ...row].map(({ expr }) => expr),
  ];
  const seen = new Set<Expr>();
  for (const expr of exprs) {
    visitExpr(expr, (e) => {
      if ("buffer" in e) buffers.add(e.buffer);
    }, seen);
  }
  return buffers;
}
