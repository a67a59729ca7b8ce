/**
 * Views: how movement operations change the affine functions that index buffers.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { isHalf } from "../half.ts";
import type { Node, Params } from "../node.ts";
import { type Shape, sizeOf, stridesOf } from "../shape.ts";
import type { View } from "./kernel.ts";

/** The view of a whole buffer of a shape. */
export function contiguous(shape: Shape): View {
  return { offset: 0, strides: stridesOf(shape) };
}

/** Whether a view goes through the points of a shape one after another from 0. */
export function isContiguous(view: View, shape: Shape): boolean {
  return view.offset === 0 && sameOver(view, contiguous(shape), shape);
}

/** Whether two views are equal at every point of a shape. */
export function sameOver(a: View, b: View, shape: Shape): boolean {
  return a.offset === b.offset &&
    shape.every((d, i) => d === 1 || a.strides[i] === b.strides[i]);
}

/** A view over `from` as a view over `to`, or null where the elements do not lie that way. */
export function reshapeView(view: View, from: Shape, to: Shape): View | null {
  if (sizeOf(from) === 0) return { offset: 0, strides: to.map(() => 0) };
  const strides = new Array<number>(to.length).fill(0);
  const axes = from.flatMap((d, i) => d === 1 ? [] : [i]);
  let next = 0;
  for (let i = 0; i < to.length;) {
    if (to[i] === 1) {
      i++;
      continue;
    }
    // Take axes from both sides until their sizes agree: [6] to [2, 3], or [2, 3] to [6].
    let size = from[axes[next]!]!, wanted = to[i]!;
    const first = next, firstTo = i;
    next++, i++;
    while (size !== wanted) {
      if (size < wanted) size *= from[axes[next++]!]!;
      else wanted *= to[i++]!;
    }
    for (let k = first; k + 1 < next; k++) {
      const outer = axes[k]!, inner = axes[k + 1]!;
      if (view.strides[outer] !== view.strides[inner]! * from[inner]!) {
        return null;
      }
    }
    let stride = view.strides[axes[next - 1]!]!;
    for (let k = i - 1; k >= firstTo; k--) {
      strides[k] = stride;
      stride *= to[k]!;
    }
  }
  return { offset: view.offset, strides };
}

/** Names of the movement primitives that are views. */
export type ViewOp =
  | "reshape"
  | "transpose"
  | "expand"
  | "slice"
  | "flip"
  | "after";

type ViewRules = {
  readonly [K in ViewOp]: (
    view: View,
    from: Shape,
    to: Shape,
    params: Params[K],
  ) => View | null;
};

/** A view over the operand's shape as a view over the result's. */
const rules: ViewRules = {
  reshape: reshapeView,
  transpose: ({ offset, strides }, _, __, { perm }) => ({
    offset,
    strides: perm.map((axis) => strides[axis]!),
  }),
  expand: ({ offset, strides }, from, to) => ({
    offset,
    strides: strides.map((s, i) => from[i] === to[i] ? s : 0),
  }),
  slice: ({ offset, strides }, _, __, { start, step }) => ({
    offset: strides.reduce((sum, s, i) => sum + s * start[i]!, offset),
    strides: strides.map((s, i) => s * step[i]!),
  }),
  flip: ({ offset, strides }, from, _, { axes }) => ({
    offset: axes.reduce((sum, i) => sum + strides[i]! * (from[i]! - 1), offset),
    strides: strides.map((s, i) => axes.includes(i) ? -s : s),
  }),
  after: (view) => view,
};

/** Whether a node is a view of its operand. */
export function isView(node: Node): boolean {
  return node.op in rules;
}

/** Whether a node is a half as f32. */
export function isWidened({ op, dtype, inputs }: Node): boolean {
  return op === "cast" && dtype === "f32" && isHalf(inputs[0]!.dtype);
}

/** The half behind a node that is one as f32, for those that widen what they read; else the node. */
export function narrowed(node: Node): Node {
  return isWidened(node) ? node.inputs[0]! : node;
}

/** The view of a movement node over its result, given one over its operand; null where it is none. */
export function moveView(node: Node, view: View): View | null {
  const rule = rules[node.op as ViewOp] as ViewRules["reshape"];
  const params = node.params as Params["reshape"];
  return rule(view, node.inputs[0]!.shape, node.shape, params);
}

/** A view over the result of a movement node as one over its operand; null where that does not have just its elements. */
export function backView(
  { op, inputs, shape, params }: Node,
  view: View,
): View | null {
  const [x] = inputs;
  switch (op) {
    case "reshape":
      return reshapeView(view, shape, x!.shape);
    case "transpose": {
      const { perm } = params as Params["transpose"];
      const strides = perm.map((_, axis) => view.strides[perm.indexOf(axis)]!);
      return { offset: view.offset, strides };
    }
    case "flip":
      return rules.flip(view, shape, shape, params as Params["flip"]);
    default:
      return null;
  }
}
