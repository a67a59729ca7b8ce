/**
 * Products of a few rows with a computed operand as sums side by side, so that it is computed once for all of them.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { entry, leafMapper, visitExpr } from "../plan/expression.ts";
import type {
  Expr,
  MatmulKernel,
  Output,
  ReduceKernel,
  Reduction,
  View,
} from "../plan/kernel.ts";
import type { Shape } from "../shape.ts";

type Repeat = Extract<Expr, { kind: "repeat" }>;

/** Most rows for which sums are faster than packed panels. */
const FEW = 4;

/** A product of a few rows or columns with a computed operand as one reduction; null for another. */
export function asSums(
  { shape, k, a, b, outputs }: MatmulKernel,
): ReduceKernel | null {
  const rank = shape.length - 2;
  const axis = [rank, rank + 1].find((axis) => {
    return shape[axis]! <= FEW && (axis === rank ? b : a).expr;
  });
  if (axis === undefined) return null;
  const row = (i: number) => ({ offset, strides }: View): View => ({
    offset: offset + i * strides[axis]!,
    strides: strides.toSpliced(axis, 1),
  });
  // Both over [...batch, m, n, k], then one row of that.
  const inA = ({ offset, strides }: View): View => {
    return { offset, strides: strides.toSpliced(rank + 1, 0, 0) };
  };
  const inB = ({ offset, strides }: View): View => {
    const [inner, column] = strides.slice(rank) as [number, number];
    return { offset, strides: [...strides.slice(0, rank), 0, column, inner] };
  };
  const left = (i: number) => entry(a, (view) => row(i)(inA(view)));
  const right = (i: number) => entry(b, (view) => row(i)(inB(view)));
  const computed = axis === rank ? right(0) : left(0);
  const rows = Array.from({ length: shape[axis]! }, (_, i) => i);
  const reductions = rows.map((i): Reduction => {
    const args = axis === rank ? [left(i), computed] : [computed, right(i)];
    const body: Expr = { kind: "call", op: "mul", args, dtype: "f32" };
    return { combine: "sum", body };
  });
  return {
    kind: "reduce",
    shape: shape.toSpliced(axis, 1),
    over: [k],
    passes: [{ reductions, outputs: [] }],
    outputs: rows.flatMap((i) => {
      const move = leafMapper((e) =>
        e.kind === "acc"
          ? { ...e, index: i }
          : "view" in e
          ? { ...e, view: row(i)(e.view) }
          : e
      );
      return outputs.map(({ buffer, view, expr }) => {
        return { buffer, view: row(i)(view), expr: move(expr)! };
      });
    }),
  };
}

/** A reduction whose loops are cut in two where an element stands several times, so that it is read once for all. */
export function unrepeated(kernel: ReduceKernel): ReduceKernel {
  const { shape, over, passes, outputs } = kernel;
  const extents = [...shape, ...over];
  const bodies = passes.flatMap((pass) => pass.reductions.map((r) => r.body));
  const repeats: Repeat[] = [];
  for (const body of bodies) {
    visitExpr(body, (e) => e.kind === "repeat" && repeats.push(e));
  }
  const [first] = repeats;
  const axis = first?.view.strides.indexOf(1) ?? -1;
  if (axis < 0 || extents[axis]! % first!.times !== 0) return kernel;
  const { times } = first!;
  const cut = ({ offset, strides }: View): View => {
    const s = strides[axis];
    if (s === undefined) return { offset, strides };
    return { offset, strides: strides.toSpliced(axis, 1, s * times, s) };
  };
  const whole = ({ offset, strides }: View): View => {
    const fine = strides.with(axis + 1, 0);
    return { offset: offset / times, strides: fine.map((s) => s / times) };
  };
  const isWhole = ({ offset, strides }: View): boolean =>
    [offset, ...strides].every(Number.isInteger);
  const move = leafMapper((e) => {
    if (!("view" in e)) return e;
    const view = cut(e.view);
    if (e.kind !== "repeat") return { ...e, view };
    const { buffer, dtype } = e;
    const coarse = whole(view);
    return e.times === times && view.strides[axis + 1] === 1 && isWhole(coarse)
      ? { kind: "load", buffer, view: coarse, dtype }
      : { ...e, view };
  });
  const halves = (list: Shape, at: number): Shape =>
    at < 0 || at >= list.length
      ? list
      : list.toSpliced(at, 1, list[at]! / times, times);
  const moved = (list: readonly Output[]): Output[] =>
    list.map(({ buffer, view, expr }) => {
      return { buffer, view: cut(view), expr: move(expr)! };
    });
  return {
    ...kernel,
    shape: halves(shape, axis),
    over: halves(over, axis - shape.length),
    passes: passes.map(({ reductions, outputs }) => ({
      reductions: reductions.map((r) => ({ ...r, body: move(r.body)! })),
      outputs: moved(outputs),
    })),
    outputs: moved(outputs),
  };
}
