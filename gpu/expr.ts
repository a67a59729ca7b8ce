/**
 * Walks and rewrites of kernel expressions.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  type Expr,
  operandsOf,
  type Output,
  type View,
} from "../core/plan/kernel.ts";

/** Calls `visit` once on each distinct subexpression, operands first. */
export function walk(
  roots: readonly Expr[],
  visit: (expr: Expr) => void,
): void {
  const seen = new Set<Expr>();
  const enter = (expr: Expr): void => {
    if (seen.has(expr)) return;
    seen.add(expr);
    operandsOf(expr).forEach(enter);
    visit(expr);
  };
  roots.forEach(enter);
}

/** A function that replaces subexpressions, operands first; what was shared stays shared. */
export function rewriter(replace: (expr: Expr) => Expr): (expr: Expr) => Expr {
  const done = new Map<Expr, Expr>();
  const rewrite = (expr: Expr): Expr => {
    let result = done.get(expr);
    if (!result) {
      result = replace(withOperands(expr, rewrite));
      done.set(expr, result);
    }
    return result;
  };
  return rewrite;
}

/** A function that replaces the views of an expression. */
export function viewRewriter(f: (view: View) => View): (expr: Expr) => Expr {
  return rewriter((expr) =>
    "view" in expr ? { ...expr, view: f(expr.view) } : expr
  );
}

/** All views of some expressions. */
export function viewsOf(roots: readonly Expr[]): View[] {
  const views: View[] = [];
  walk(roots, (expr) => {
    if ("view" in expr) views.push(expr.view);
  });
  return views;
}

/** An access to a buffer. */
export interface Access {
  /** Which buffer of the kernel. */
  readonly buffer: number;
  /** Where in it; null where the place is computed. */
  readonly view: View | null;
}

/** All loads of some expressions. */
export function loadsOf(roots: readonly Expr[]): Access[] {
  const loads: Access[] = [];
  walk(roots, (expr) => {
    if (expr.kind === "load") loads.push(expr);
    if (expr.kind === "gather") {
      loads.push({ buffer: expr.buffer, view: null });
    }
  });
  return loads;
}

/** All stores and loads of some outputs. */
export function accessesOf(outputs: readonly Output[]): Access[] {
  return [...outputs, ...loadsOf(outputs.map(({ expr }) => expr))];
}

function withOperands(expr: Expr, f: (expr: Expr) => Expr): Expr {
  switch (expr.kind) {
    case "call":
      return { ...expr, args: expr.args.map(f) };
    case "cast":
      return { ...expr, arg: f(expr.arg) };
    case "gather":
      return { ...expr, index: f(expr.index) };
    default:
      return expr;
  }
}
