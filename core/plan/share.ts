/**
 * Sharing inside a kernel: what is equal is computed once, and what is costly is not computed again in a later pass.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { WORK } from "./cost.ts";
import {
  exprKey,
  exprsOf,
  mapKernel,
  visitExpr,
  withOperands,
} from "./expression.ts";
import { readBy } from "./place.ts";
import type { Expr, Pass, ReduceKernel, SimpleKernel } from "./kernel.ts";

/** Work from which on a value is rather stored and loaded than computed again: that of an exponential. */
const COSTLY = 8;

/** The kernel with equal expressions as one object, and with costly ones kept from pass to pass. */
export function share(kernel: SimpleKernel): SimpleKernel {
  const equal = unifier();
  const buffer = (id: number): number => id;
  const shared = mapKernel(kernel, { buffer, expr: equal });
  return shared.kind === "reduce" ? keep(shared) : shared;
}

/** A function that gives one object for all equal expressions. */
function unifier(): (expr: Expr) => Expr {
  const known = new Map<string, Expr>();
  const ids = new Map<Expr, number>();
  const done = new Map<Expr, Expr>();
  const unify = (e: Expr): Expr => {
    let own = done.get(e);
    if (!own) {
      const moved = withOperands(e, unify);
      const key = exprKey(moved, (operand) => ids.get(operand)!);
      own = known.get(key) ?? moved;
      known.set(key, own);
      if (!ids.has(own)) ids.set(own, ids.size);
      done.set(e, own);
    }
    return own;
  };
  return unify;
}

/**
 * Stores what two passes compute where the later one stores a result of it: softmax keeps its exponentials in the
 * place of the quotients to come.
 */
function keep(kernel: ReduceKernel): ReduceKernel {
  const read = readBy(kernel);
  let { passes } = kernel;
  for (const [late, { outputs }] of kernel.passes.entries()) {
    for (const [i, { buffer, view }] of outputs.entries()) {
      const { expr } = passes[late]!.outputs[i]!;
      const found = read.has(buffer) || expr.dtype !== "f32"
        ? null
        : costlyBefore(passes, late, expr);
      if (!found) continue;
      const [early, costly] = found;
      const load: Expr = { kind: "load", buffer, view, dtype: "f32" };
      const replace = replacer(costly, load);
      passes = passes.map((pass, i) => {
        // After the late one the place holds its result.
        if (i < early || i > late) return pass;
        if (i > early) return mapPass(pass, replace);
        const kept = { buffer, view, expr: costly };
        return { ...pass, outputs: [...pass.outputs, kept] };
      });
      read.add(buffer);
    }
  }
  return { ...kernel, passes };
}

/** The first costly part of an expression that an earlier pass computes as well, and which one does first. */
function costlyBefore(
  passes: readonly Pass[],
  late: number,
  expr: Expr,
): [number, Expr] | null {
  const costly: Expr[] = [];
  visitExpr(expr, (e) => {
    const isCostly = e.kind === "call" && e.dtype === "f32" &&
      e.op !== "threefry" && (WORK[e.op] ?? COSTLY) >= COSTLY;
    if (isCostly) costly.push(e);
  });
  for (let early = 0; early < late; early++) {
    const seen = new Set<Expr>();
    for (const e of exprsOf({ ...empty, passes: [passes[early]!] })) {
      visitExpr(e, () => {}, seen);
    }
    const found = costly.findLast((e) => seen.has(e));
    if (found) return [early, found];
  }
  return null;
}

const empty: ReduceKernel = {
  kind: "reduce",
  shape: [],
  over: [],
  passes: [],
  outputs: [],
};

/** A function that puts one expression in the place of another. */
function replacer(from: Expr, to: Expr): (expr: Expr) => Expr {
  const done = new Map<Expr, Expr>([[from, to]]);
  const replace = (e: Expr): Expr => {
    let own = done.get(e);
    if (!own) done.set(e, own = withOperands(e, replace));
    return own;
  };
  return replace;
}

function mapPass(pass: Pass, f: (expr: Expr) => Expr): Pass {
  return {
    reductions: pass.reductions.map((r) => ({ ...r, body: f(r.body) })),
    outputs: pass.outputs.map((o) => ({ ...o, expr: f(o.expr) })),
  };
}
