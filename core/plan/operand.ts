/**
 * Operands of products: parts of buffers, or what is computed of a few bytes as it is read.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { bytesPerElement } from "../backend.ts";
import type { Node } from "../node.ts";
import { ops } from "../ops.ts";
import { sizeOf } from "../shape.ts";
import { RECOMPUTED, WORK } from "./cost.ts";
import { visitExpr } from "./expression.ts";
import { type Build, inline, type InlineState, strided } from "./inline.ts";
import type { Expr, Matrix } from "./kernel.ts";
import { isView, narrowed } from "./view.ts";

/** What an operand must save: the bytes of the operand by those that are read of it. */
const LEAST_SAVED = 2;

/** An operand of a product, which widens halves itself; an expression if it is rather computed as it is read. */
export function matrix(state: InlineState, node: Node): Matrix {
  const own = narrowed(node);
  const isComputed = state.grouping.packed.has(node) && isPacked(own, state);
  if (!isComputed) return strided(state, own);
  const expr = inline(state, operandBuild(), own);
  const { buffer, view } = unpackedBy(expr)!;
  return { buffer, view, dtype: "f32", expr };
}

/** Operands of products that are packed words, as far as is known before a graph is cut. */
export function packedOperands(order: readonly Node[]): Set<Node> {
  const uncut = {
    ids: new Map<Node, number>(),
    grouping: { roots: new Set<Node>(), packed: new Set<Node>() },
  };
  // What is computed of packed words point by point.
  const unpacked = new Set<Node>();
  const packed = new Set<Node>();
  for (const node of order) {
    const { op, inputs } = node;
    const isPointwise = ops[op].kind === "elementwise" || isView(node);
    if (op === "unpack" || isPointwise && inputs.some((x) => unpacked.has(x))) {
      unpacked.add(node);
    }
    if (op !== "matmul") continue;
    for (const x of inputs) {
      if (unpacked.has(x) && isPacked(x, uncut)) packed.add(x);
    }
  }
  return packed;
}

/** Whether an operand is rather computed from packed words wherever it is read than stored, which takes more bytes. */
function isPacked(
  node: Node,
  { ids, grouping }: Pick<InlineState, "ids" | "grouping">,
): boolean {
  const read = new Map<Node, number>();
  const materialize = (x: Node): number => {
    if (!read.has(x)) read.set(x, read.size);
    return read.get(x)!;
  };
  const expr = inline({ ids, grouping, materialize }, operandBuild(), node);
  if (!unpackedBy(expr)) return false;
  let work = 0, isAlike = true;
  visitExpr(expr, (e) => {
    if (e.kind === "call") {
      work += e.op === "threefry" ? Infinity : WORK[e.op] ?? Infinity;
    }
    if (e.kind === "gather") work = Infinity;
    if ("view" in e) {
      isAlike &&= e.view.strides.slice(0, -2).every((s) => s === 0);
    }
  });
  const bytes = [...read.keys()].reduce(
    (sum, { shape, dtype }) => sum + sizeOf(shape) * bytesPerElement(dtype),
    0,
  );
  const dense = sizeOf(node.shape.slice(-2)) * bytesPerElement(node.dtype);
  return isAlike && work <= RECOMPUTED && LEAST_SAVED * bytes <= dense;
}

function operandBuild(): Build {
  return { root: null, acc: null, exprs: new Map(), repeats: true };
}

/** The words that an expression unpacks; null where there are none. */
function unpackedBy(expr: Expr): (Expr & { kind: "unpack" }) | null {
  let found: (Expr & { kind: "unpack" }) | null = null;
  visitExpr(expr, (e) => {
    if (e.kind === "unpack") found ??= e;
  });
  return found;
}
