/**
 * A text that two kernels share exactly when one function computes both.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { visitExpr } from "../plan/expression.ts";
import type { Expr, Output, SimpleKernel, View } from "../plan/kernel.ts";

/** The structure of a kernel: its loops, expressions and views, and the numbers of its buffers. */
export function kernelKey(kernel: SimpleKernel): string {
  const ids = new Map<Expr, number>();
  const parts: string[] = [kernel.kind, kernel.shape.join()];
  const seen = new Set<Expr>();
  const add = (expr: Expr): number => {
    visitExpr(expr, (e) => {
      parts.push(exprKey(e, ids));
      ids.set(e, ids.size);
    }, seen);
    return ids.get(expr)!;
  };
  const addOutputs = (outputs: readonly Output[]): void => {
    for (const { buffer, view, expr } of outputs) {
      const id = add(expr);
      parts.push(`${buffer}=${id} ${viewKey(view)}`);
    }
  };
  if (kernel.kind === "scatter") {
    const { axis, buffer, view, stride, size, index, source } = kernel;
    const roots = [add(index), add(source)];
    parts.push(`${[axis, buffer, stride, size, ...roots]} ${viewKey(view)}`);
    return parts.join(";");
  }
  if (kernel.kind === "reduce") {
    parts.push(`over ${kernel.over}`);
    for (const { reductions, outputs } of kernel.passes) {
      parts.push("pass");
      for (const { combine, body } of reductions) {
        const id = add(body);
        parts.push(`${combine} ${id}`);
      }
      addOutputs(outputs);
    }
    parts.push("after");
  }
  if (kernel.kind === "matmul") {
    const { k, a, b } = kernel;
    const operands = [a, b].map((x) => `${x.buffer} ${viewKey(x.view)}`);
    parts.push(`${k} ${operands.join(" ")}`);
  }
  addOutputs(kernel.outputs);
  return parts.join(";");
}

function exprKey(expr: Expr, ids: ReadonlyMap<Expr, number>): string {
  const head = `${expr.kind} ${expr.dtype}`;
  switch (expr.kind) {
    case "load":
      return `${head} ${expr.buffer} ${viewKey(expr.view)}`;
    case "gather": {
      const { buffer, index, stride, size, view } = expr;
      return `${head} ${buffer} ${ids.get(index)} ${stride} ${size} ${
        viewKey(view)
      }`;
    }
    case "const":
      return `${head} ${Object.is(expr.value, -0) ? "-0" : expr.value}`;
    case "index":
      return `${head} ${viewKey(expr.view)}`;
    case "acc":
      return `${head} ${expr.index}`;
    case "cast":
      return `${head} ${ids.get(expr.arg)}`;
    case "call":
      return `${head} ${expr.op} ${expr.args.map((arg) => ids.get(arg))}`;
  }
}

function viewKey({ offset, strides }: View): string {
  return `${offset}:${strides}`;
}
