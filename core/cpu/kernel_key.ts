/**
 * A text that two kernels share exactly when one function computes both.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { inFull } from "../plan/key.ts";
import { exprKey, viewKey, visitExpr } from "../plan/expression.ts";
import type { Expr, Output, SimpleKernel } from "../plan/kernel.ts";

/** The structure of a kernel: its loops, expressions and views, and the numbers of its buffers. */
export function kernelKey(kernel: SimpleKernel): string {
  const ids = new Map<Expr, number>();
  const parts: string[] = [kernel.kind, kernel.shape.join()];
  const seen = new Set<Expr>();
  const add = (expr: Expr): number => {
    visitExpr(expr, (e) => {
      parts.push(exprKey(e, (operand) => ids.get(operand)!));
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
  if (kernel.kind === "fused") {
    const { spec, operands, results } = kernel;
    const sites = [...operands, ...results].map((x) =>
      x && `${x.buffer} ${x.dtype} ${x.shape} ${viewKey(x.view)}`
    );
    parts.push(JSON.stringify(spec, inFull), ...sites.map(String));
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
    const operands = [a, b].map((x) =>
      x.expr
        ? `computed ${add(x.expr)}`
        : `${x.buffer} ${x.dtype} ${viewKey(x.view)}`
    );
    parts.push(`${k} ${operands.join(" ")}`);
  }
  addOutputs(kernel.outputs);
  return parts.join(";");
}
