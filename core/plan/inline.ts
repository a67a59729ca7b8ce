/**
 * Inlining: the expression of a node inside a kernel.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { invariant } from "../errors.ts";
import { bytesPerElement } from "../backend.ts";
import type { Node, Params, UnpackParams } from "../node.ts";
import { fieldsOf, ops } from "../ops.ts";
import { type Shape, stridesOf } from "../shape.ts";
import { mapLeaves, mapViews } from "./expression.ts";
import type { Expr, ScalarOp, View } from "./kernel.ts";
import { contiguous, isView, moveView, reshapeView } from "./view.ts";

/** Stands for the accumulator among the buffers of an expression that is being built. */
export const ACC = -1;

/** How a graph is cut, as far as inlining needs to know. */
export interface Cut {
  /** Nodes that are computed into buffers. */
  readonly roots: ReadonlySet<Node>;
  /** Operands of products that may be computed from packed words as they are read. */
  readonly packed: ReadonlySet<Node>;
}

/** What inlining needs to know of the graph: which nodes stand in buffers, and how one gets there. */
export interface InlineState {
  /** Which nodes are to be computed into buffers. */
  readonly grouping: Cut;
  /** The values of nodes that are. */
  readonly ids: Map<Node, number>;
  /** The value that holds a node, computed now if it is not yet. */
  readonly materialize: (node: Node) => number;
}

/** One kernel being built: its root, the reduction or product that it computes, and the expressions made so far. */
export interface Build {
  /** The node that the kernel computes. */
  readonly root: Node | null;
  /** The reduction or product in it. */
  readonly acc: Node | null;
  /** Expressions of nodes. */
  readonly exprs: Map<Node, Expr>;
  /** Whether what is repeated may be read so, rather than be laid out anew. */
  readonly repeats?: boolean;
}

/** The expression of a node over its own shape, inside a kernel. */
export function inline(state: InlineState, build: Build, node: Node): Expr {
  let expr = build.exprs.get(node);
  if (!expr) build.exprs.set(node, expr = buildExpr(state, build, node));
  return expr;
}

function buildExpr(state: InlineState, build: Build, node: Node): Expr {
  const { shape, dtype } = node;
  if (node === build.acc) {
    return { kind: "load", buffer: ACC, view: contiguous(shape), dtype };
  }
  const isRoot = state.grouping.roots.has(node) && node !== build.root;
  if (isRoot || state.ids.has(node)) return load(state, node);
  if (isView(node)) return moved(state, build, node);
  switch (node.op) {
    case "fill": {
      const { value } = node.params as Params["fill"];
      return { kind: "const", value, dtype };
    }
    case "iota": {
      const { axis } = node.params as Params["iota"];
      const strides = shape.map((_, i) => i === axis ? 1 : 0);
      return { kind: "index", view: { offset: 0, strides }, dtype };
    }
    case "gather":
      return gathered(state, build, node);
    case "unpack":
      return unpacked(state, node);
    case "random":
      return random(state, node);
    case "cast":
      return {
        kind: "cast",
        arg: inline(state, build, node.inputs[0]!),
        dtype,
      };
  }
  if (ops[node.op].kind !== "elementwise") return load(state, node);
  const args = node.inputs.map((x) => inline(state, build, x));
  return { kind: "call", op: node.op as ScalarOp, args, dtype };
}

export function load(state: InlineState, node: Node): Expr & { kind: "load" } {
  const buffer = state.materialize(node);
  const view = contiguous(node.shape);
  return { kind: "load", buffer, view, dtype: node.dtype };
}

/** A movement node: the views of its operand moved, or the operand stored where they cannot be. */
function moved(state: InlineState, build: Build, node: Node): Expr {
  const [x] = node.inputs;
  const move = (expr: Expr) =>
    build.repeats && node.op === "reshape"
      ? mapLeaves(expr, (e) => reshaped(e, x!.shape, node.shape))
      : mapViews(expr, (view) => moveView(node, view));
  const expr = move(inline(state, build, x!)) ?? move(load(state, x!));
  invariant(expr, `${node.op} of a whole buffer is a view`);
  return expr;
}

/** A leaf in another shape, each of whose elements may stand several times; null where it does not lie so. */
function reshaped(e: Expr, from: Shape, to: Shape): Expr | null {
  if (!("view" in e)) return e;
  const view = reshapeView(e.view, from, to);
  if (view) return { ...e, view };
  const axis = from.findLastIndex((d) => d > 1);
  const isRepeated = e.kind === "load" && e.view.strides[axis] === 0 &&
    bytesPerElement(e.dtype) === 4;
  if (!isRepeated) return null;
  const times = from[axis]!;
  const { buffer, dtype, view: { offset, strides } } = e;
  const fine: View = {
    offset: offset * times,
    strides: strides.map((s, i) => i === axis ? 1 : s * times),
  };
  const moved = reshapeView(fine, from, to);
  return moved && { kind: "repeat", buffer, view: moved, times, dtype };
}

/** A node as a strided part of a buffer. */
export function strided(
  state: InlineState,
  node: Node,
): Expr & { kind: "load" } {
  const build: Build = { root: null, acc: null, exprs: new Map() };
  const expr = inline(state, build, node);
  return expr.kind === "load" ? expr : load(state, node);
}

function gathered(state: InlineState, build: Build, node: Node): Expr {
  const [x, index] = node.inputs;
  const { axis } = node.params as Params["gather"];
  const { buffer, view: { offset, strides } } = strided(state, x!);
  return {
    kind: "gather",
    buffer,
    view: { offset, strides: strides.map((s, i) => i === axis ? 0 : s) },
    index: inline(state, build, index!),
    stride: strides[axis]!,
    size: x!.shape[axis]!,
    dtype: node.dtype,
  };
}

function unpacked(state: InlineState, node: Node): Expr {
  const [words] = node.inputs;
  const { levels } = node.params as UnpackParams;
  const times = fieldsOf({ levels });
  let { buffer, view } = strided(state, words!);
  // Fields that follow one another across words are those of words that do.
  if (view.strides.at(-1) !== 1) ({ buffer, view } = load(state, words!));
  const strides = view.strides.map((s) => s * times).with(-1, 1);
  const fine = { offset: view.offset * times, strides };
  return { kind: "unpack", buffer, view: fine, levels, dtype: "f32" };
}

function random(state: InlineState, { shape, inputs, params }: Node): Expr {
  const [key, stream] = inputs.map((x) => strided(state, x));
  const { shape: drawn } = params as Params["random"];
  const rank = shape.length - drawn.length;
  const dtype = "u32";
  const at = (
    { buffer, view }: Expr & { kind: "load" },
    offset: number,
  ): Expr => {
    const strides = shape.map((_, i) => i < rank ? view.strides[i]! : 0);
    return { kind: "load", buffer, view: { offset, strides }, dtype };
  };
  const { offset, strides } = key!.view;
  const index = [...new Array<number>(rank).fill(0), ...stridesOf(drawn)];
  const args: Expr[] = [
    at(key!, offset),
    at(key!, offset + strides[rank]!),
    { kind: "index", view: { offset: 0, strides: index }, dtype },
    at(stream!, stream!.view.offset),
  ];
  return { kind: "call", op: "threefry", args, dtype };
}
