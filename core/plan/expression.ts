/**
 * Expressions of kernels: walking them, and carrying them to another index space.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { fieldsOf } from "../ops.ts";
import {
  type Expr,
  type Matrix,
  operandsOf,
  type Output,
  type SimpleKernel,
  type View,
} from "./kernel.ts";

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

/** An expression with others for its operands. */
export function withOperands(e: Expr, f: (e: Expr) => Expr): Expr {
  switch (e.kind) {
    case "call":
      return { ...e, args: e.args.map(f) };
    case "cast":
      return { ...e, arg: f(e.arg) };
    case "gather":
      return { ...e, index: f(e.index) };
    default:
      return e;
  }
}

/** How many elements of an expression lie in one of its buffer. */
export function timesOf(expr: Expr): number {
  if (expr.kind === "repeat") return expr.times;
  return expr.kind === "unpack" ? fieldsOf(expr) : 1;
}

/** An element of a matrix, as f32, whose views `move` takes to other loops. */
export function entry(
  { buffer, view, dtype, expr }: Matrix,
  move: (view: View) => View,
): Expr {
  if (expr) return mapViews(expr, move)!;
  const load: Expr = { kind: "load", buffer, view: move(view), dtype };
  return dtype === "f32" ? load : { kind: "cast", arg: load, dtype: "f32" };
}

/** A text that expressions share exactly when they are equal; operands go by their numbers. */
export function exprKey(e: Expr, idOf: (operand: Expr) => number): string {
  const head = `${e.kind} ${e.dtype}`;
  switch (e.kind) {
    case "load":
      return `${head} ${e.buffer} ${viewKey(e.view)}`;
    case "gather":
      return `${head} ${e.buffer} ${idOf(e.index)} ${e.stride} ${e.size} ${
        viewKey(e.view)
      }`;
    case "repeat":
      return `${head} ${e.buffer} ${e.times} ${viewKey(e.view)}`;
    case "unpack":
      return `${head} ${e.buffer} ${e.levels} ${viewKey(e.view)}`;
    case "const":
      return `${head} ${Object.is(e.value, -0) ? "-0" : e.value}`;
    case "index":
      return `${head} ${viewKey(e.view)}`;
    case "acc":
      return `${head} ${e.index}`;
    case "cast":
      return `${head} ${idOf(e.arg)}`;
    case "call":
      return `${head} ${e.op} ${e.args.map(idOf)}`;
  }
}

/** A text that views share exactly when they are equal. */
export function viewKey({ offset, strides }: View): string {
  return `${offset}:${strides}`;
}

/** A function that rewrites the leaves of expressions and keeps what is shared shared; null where `leaf` gives null. */
export function leafMapper(
  leaf: (expr: Expr) => Expr | null,
): (expr: Expr) => Expr | null {
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
  return visit;
}

/** A function that rewrites every view of expressions; null where `f` gives null. */
export function viewMapper(
  f: (view: View) => View | null,
): (expr: Expr) => Expr | null {
  return leafMapper((e) => {
    if (e.kind === "const" || e.kind === "acc") return e;
    if (e.kind === "call" || e.kind === "cast") return e;
    const view = f(e.view);
    return view && { ...e, view };
  });
}

/** Rewrites the leaves of one expression. */
export function mapLeaves(
  expr: Expr,
  leaf: (expr: Expr) => Expr | null,
): Expr | null {
  return leafMapper(leaf)(expr);
}

/** Rewrites the views of one expression. */
export function mapViews(
  expr: Expr,
  f: (view: View) => View | null,
): Expr | null {
  return viewMapper(f)(expr);
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
    if ("buffer" in e) buffers.add(e.buffer);
  });
  return buffers;
}

/** Every buffer that a product reads for an operand. */
export function buffersOfMatrix({ buffer, expr }: Matrix): Iterable<number> {
  return expr ? buffersOf(expr) : [buffer];
}

/** A matrix with other views. */
export function mapMatrix(matrix: Matrix, move: (view: View) => View): Matrix {
  const { view, expr } = matrix;
  const moved = { ...matrix, view: move(view) };
  return expr ? { ...moved, expr: mapViews(expr, move)! } : moved;
}

/** Every store of a kernel that has an expression. */
export function outputsOf(kernel: SimpleKernel): readonly Output[] {
  if (kernel.kind === "scatter" || kernel.kind === "fused") return [];
  if (kernel.kind !== "reduce") return kernel.outputs;
  return [...kernel.passes.flatMap((p) => p.outputs), ...kernel.outputs];
}

/** Every expression of a kernel. */
export function exprsOf(kernel: SimpleKernel): readonly Expr[] {
  if (kernel.kind === "scatter") return [kernel.index, kernel.source];
  const stored = outputsOf(kernel).map(({ expr }) => expr);
  if (kernel.kind !== "reduce") return stored;
  const bodies = kernel.passes.flatMap((p) => p.reductions.map((r) => r.body));
  return [...bodies, ...stored];
}

/** What a rewrite of a kernel does to its parts. */
export interface Rewrite {
  /** Buffers. */
  readonly buffer: (buffer: number) => number;
  /** Expressions. */
  readonly expr: (expr: Expr) => Expr;
  /** Views outside of expressions; they stay as they are if absent. */
  readonly view?: (view: View, buffer: number) => View;
}

/** A kernel with other buffers, expressions and views. */
export function mapKernel<K extends SimpleKernel>(
  kernel: K,
  { buffer, expr }: Rewrite,
): K;
export function mapKernel(
  kernel: SimpleKernel,
  { buffer, expr, view = (view) => view }: Rewrite,
): SimpleKernel {
  const operand = <M extends Matrix>(matrix: M): M => ({
    ...matrix,
    buffer: buffer(matrix.buffer),
    view: view(matrix.view, matrix.buffer),
    ...matrix.expr && { expr: expr(matrix.expr) },
  });
  const mapOutputs = (outputs: readonly Output[]): Output[] =>
    outputs.map((o) => ({
      buffer: buffer(o.buffer),
      view: view(o.view, o.buffer),
      expr: expr(o.expr),
    }));
  switch (kernel.kind) {
    case "scatter":
      return {
        ...kernel,
        buffer: buffer(kernel.buffer),
        view: view(kernel.view, kernel.buffer),
        index: expr(kernel.index),
        source: expr(kernel.source),
      };
    case "map":
      return { ...kernel, outputs: mapOutputs(kernel.outputs) };
    case "reduce":
      return {
        ...kernel,
        passes: kernel.passes.map(({ reductions, outputs }) => ({
          reductions: reductions.map((r) => ({ ...r, body: expr(r.body) })),
          outputs: mapOutputs(outputs),
        })),
        outputs: mapOutputs(kernel.outputs),
      };
    case "matmul":
      return {
        ...kernel,
        a: operand(kernel.a),
        b: operand(kernel.b),
        outputs: mapOutputs(kernel.outputs),
      };
    case "fused":
      return {
        ...kernel,
        operands: kernel.operands.map(operand),
        results: kernel.results.map((result) => result && operand(result)),
      };
  }
}

/** A function that gives kernels other numbers for their buffers; what their expressions share stays shared. */
export function bufferRenamer(
  buffer: (id: number) => number,
): <K extends SimpleKernel>(kernel: K) => K {
  const rename = leafMapper((e) =>
    "buffer" in e ? { ...e, buffer: buffer(e.buffer) } : e
  );
  return (kernel) => mapKernel(kernel, { buffer, expr: (e) => rename(e)! });
}
