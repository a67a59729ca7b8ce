/**
 * Kernels around an accumulator: what a reduction or product reads, and what becomes of its result.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Node, Params } from "../node.ts";
import { sizeOf } from "../shape.ts";
import {
  buffersOf,
  buffersOfMatrix,
  mapLeaves,
  mapViews,
} from "./expression.ts";
import { ACC, type Build, inline, type InlineState } from "./inline.ts";
import type { Matrix, Output, SimpleKernel, View } from "./kernel.ts";
import { matrix } from "./operand.ts";
import { isContiguous, reshapeView } from "./view.ts";

/** A store over the root's shape as one over the accumulator's, or null where the accumulator moves about. */
export function asEpilogue(
  { view, expr }: Omit<Output, "buffer">,
  root: Node,
  acc: Node,
): Omit<Output, "buffer"> | null {
  if (sizeOf(root.shape) !== sizeOf(acc.shape)) return null;
  const move = (view: View) => reshapeView(view, root.shape, acc.shape);
  const there = move(view), moved = mapViews(expr, move);
  let found = false;
  const out = there && moved && mapLeaves(moved, (e) => {
    if (e.kind !== "load" || e.buffer !== ACC) return e;
    found = true;
    return isContiguous(e.view, acc.shape)
      ? { kind: "acc", index: 0, dtype: e.dtype }
      : null;
  });
  return found && out ? { view: there!, expr: out } : null;
}

/** The kernel around a reduction or product, given its outputs; and the buffers it reads for it. */
export function withAcc(
  state: InlineState,
  acc: Node,
  build: Build,
): {
  kernel: (outputs: Output[]) => SimpleKernel;
  axes: readonly number[];
  reads: Set<number>;
} {
  const { shape } = acc;
  if (acc.op === "matmul") {
    const [a, b] = acc.inputs.map((x) => matrix(state, x)) as [Matrix, Matrix];
    return {
      kernel: (outputs) => {
        return {
          kind: "matmul",
          shape,
          k: acc.inputs[0]!.shape.at(-1)!,
          a,
          b,
          outputs,
        };
      },
      axes: shape.map((_, i) => i),
      reads: new Set([...buffersOfMatrix(a), ...buffersOfMatrix(b)]),
    };
  }
  const [x] = acc.inputs;
  const { axes } = acc.params as Params["sum"];
  const order = x!.shape.map((_, i) => i).filter((i) => !axes.includes(i));
  const perm = [...order, ...axes];
  const inner = inline(
    state,
    { root: null, acc: null, exprs: build.exprs },
    x!,
  );
  const body = mapViews(inner, ({ offset, strides }) => ({
    offset,
    strides: perm.map((axis) => strides[axis]!),
  }))!;
  const over = axes.map((axis) => x!.shape[axis]!);
  const combine = acc.op as "sum" | "max";
  const passes = [{ reductions: [{ combine, body }], outputs: [] }];
  return {
    kernel: (outputs) => ({ kind: "reduce", shape, over, passes, outputs }),
    axes: perm,
    reads: buffersOf(body),
  };
}
