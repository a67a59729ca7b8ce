/**
 * Where products of matrices accumulate: in an output with contiguous rows, or else in scratch memory.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { isHalf } from "../half.ts";
import { buffersOf } from "../plan/expression.ts";
import type { Expr, MatmulKernel, Matrix, View } from "../plan/kernel.ts";
import { withAccs } from "./arrange.ts";
import type { Pointer } from "./assembler.ts";

/** Where the product accumulates, and what is left to compute from it. */
export interface Target {
  /** What it accumulates in. */
  readonly c: Matrix;
  /** Stores that read it. */
  readonly outputs: MatmulKernel["outputs"];
}

/** An output to accumulate in, or else scratch memory at an offset that `take` gives. */
export function targetOf(
  { shape, outputs }: MatmulKernel,
  scratch: Pointer,
  take: (bytes: number) => number,
): Target {
  const [m, n] = shape.slice(-2) as [number, number];
  // Sums must not gather where an output still has to read.
  const read = new Set(outputs.flatMap((o) => [...buffersOf(o.expr)]));
  const hosts = outputs.filter((o) =>
    o.view.strides.at(-1) === 1 && !read.has(o.buffer) &&
    !isHalf(o.expr.dtype)
  );
  const host = hosts.find((o) => o.expr.kind === "acc") ?? hosts[0];
  const inScratch = (): View => ({
    offset: take(4 * m * n) / 4,
    strides: [...shape.slice(0, -2).fill(0), n, 1],
  });
  const { buffer, view } = host ?? { buffer: scratch, view: inScratch() };
  const c: Matrix = { buffer, view, dtype: "f32" };
  const acc: Expr = { kind: "load", ...c };
  const rest = outputs.filter((o) => o !== host || o.expr.kind !== "acc");
  return { c, outputs: withAccs(rest, [acc]) };
}
