/**
 * Expressions of kernels: walking them, and carrying them to another index space.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { type Expr, operandsOf, type View } from "./kernel.ts";

/** Calls `visit` once for each distinct expression, operands first. */
export function visitExpr(
  expr: Expr,
  visit: (expr: Expr) => void,
  seen: Set<Expr> = new Set(),
): void {
  if (seen.has(expr)) return;
  seen.add(expr);
  for (const operand of operandsOf(expr)) visitExpr(operand, visit, seen);
  visit(expr);
}

/** Rewrites the leaves of an expression, keeping what is shared shared; null where `leaf` gives null. */
export function mapLeaves(
  expr: Expr,
  leaf: (expr: Expr) => Expr | null,
): Expr | null {
  const done = new Map<Expr, Expr | null>();
  const visit = (e: Expr): Expr | null => {
    let out = done.get(e);
    if (out === undefined) done.set(e, out = rewrite(e));
    return out;
  };
  const rewrite = (e: Expr): Expr | null => {
    switch (e.kind) {
      case "call": {
        const args: Expr[] = [];
        for (const arg of e.args) {
          const out = visit(arg);
          if (!out) return null;
          args.push(out);
        }
        return { ...e, args };
      }
      case "cast": {
        const arg = visit(e.arg);
        return arg && { ...e, arg };
      }
      case "gather": {
        const index = visit(e.index);
        const moved = leaf(e);
        return index && moved && { ...moved as typeof e, index };
      }
      default:
        return leaf(e);
    }
  };
  return visit(expr);
}

/** Rewrites every view of an expression; null where `f` gives null. */
export function mapViews(
  expr: Expr,
  f: (view: View) => View | null,
): Expr | null {
  return mapLeaves(expr, (e) => {
    if (e.kind === "const" || e.kind === "acc") return e;
    if (e.kind === "call" || e.kind === "cast") return e;
    const view = f(e.view);
    return view && { ...e, view };
  });
}

/** Every view of an expression. */
export function viewsOf(expr: Expr): View[] {
  const views: View[] = [];
  visitExpr(expr, (e) => {
    if ("view" in e) views.push(e.view);
  });
  return views;
}

/** Every buffer that an expression reads. */
export function buffersOf(expr: Expr): Set<number> {
  const buffers = new Set<number>();
  visitExpr(expr, (e) => {
    if (e.kind === "load" || e.kind === "gather") buffers.add(e.buffer);
  });
  return buffers;
}
