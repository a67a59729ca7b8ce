/**
 * How long kernels take on one thread, roughly: what decides whether threads are worth their while.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { visitExpr } from "../plan/expression.ts";
import type { Expr } from "../plan/kernel.ts";

/** Nanoseconds that an instruction on a point takes, with its share of memory: `add` moves some 30 GB/s. */
const INSTRUCTION = 0.05;

/** Nanoseconds of a multiplication and an addition in a product: some 55 GFLOP/s. */
export const MADD = 0.035;

/** Nanoseconds to pack an element of a matrix. */
export const PACK = 0.3;

const LONG: ReadonlySet<string> = new Set([
  "exp",
  "expm1",
  "log",
  "log1p",
  "sin",
  "cos",
  "tanh",
  "erf",
  "pow",
  "threefry",
]);

/** Instructions for a point of expressions, about. */
export function instructionsOf(exprs: readonly Expr[]): number {
  let size = 0;
  const seen = new Set<Expr>();
  for (const expr of exprs) {
    visitExpr(expr, (e) => {
      const { kind } = e;
      if (kind === "call") size += LONG.has(e.op) ? 20 : 1;
      else if (kind !== "const") size++;
    }, seen);
  }
  return size;
}

/** Nanoseconds for so many points of expressions, about. */
export function workOf(points: number, exprs: readonly Expr[]): number {
  return INSTRUCTION * points * (1 + instructionsOf(exprs));
}
