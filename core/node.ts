/**
 * Nodes of a graph, and the parameters that each primitive takes: the types that the op table fills in.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { DType } from "./dtype.ts";
import type { FusedSpec } from "./fused_spec.ts";
import type { Shape, Type } from "./shape.ts";

/** One primitive applied to earlier values. */
export interface Node extends Type {
  /** Name of the primitive. */
  readonly op: OpName;
  /** Operands. */
  readonly inputs: readonly Node[];
  /** What else the primitive needs to know; see its row. */
  readonly params: unknown;
}

/** A traced function: `outputs` in terms of `inputs`, which are nodes of op "input". */
export interface Graph {
  /** Arguments and captured tensors. */
  readonly inputs: readonly Node[];
  /** Results. */
  readonly outputs: readonly Node[];
}

/**
 * The cotangents of the operands of a tuple `out`, given those of its parts; null where none flows. Those that are not
 * needed may be null as well.
 */
export type Pullback = (
  cts: readonly (Node | null | undefined)[],
  out: Node,
  needed: readonly boolean[],
) => (Node | null)[];

/** What the engine knows of a primitive; P are its parameters. */
export interface Op<P> {
  /**
   * How the planner treats it: leaves have no operands, elementwise ops are scalar functions, moves are views, tuples are
   * several values, read by their parts.
   */
  readonly kind:
    | "leaf"
    | "elementwise"
    | "move"
    | "reduce"
    | "index"
    | "product"
    | "tuple";
  /** Type of the result; throws where the operands do not fit. */
  type(inputs: readonly Type[], params: P): Type;
  /** Cotangents of the operands, null where none flows; a rule of null says that no gradient flows at all. */
  readonly vjp:
    | ((ct: Node, out: Node, inputs: Node[], params: P) => (Node | null)[])
    | null;
  /**
   * Parameters with which it maps operands that all have a batch axis of a size in front to a result that has it too;
   * null for leaves, which have no operands.
   */
  readonly batch: ((params: P, size: number) => P) | null;
}

/** Axis ranges of `slice`: `start + step · i` for i in 0..size-1 on each axis. */
export interface SliceParams {
  /** First element on each axis. */
  readonly start: Shape;
  /** Number of elements on each axis. */
  readonly size: Shape;
  /** Distance between elements on each axis, at least 1. */
  readonly step: Shape;
}

/** Margins of `pad`: `low` before, `interior` between elements, `high` after, on each axis. */
export interface PadParams {
  /** Elements before. */
  readonly low: Shape;
  /** Elements after. */
  readonly high: Shape;
  /** Elements between each two neighbours. */
  readonly interior: Shape;
  /** What the margins are filled with. */
  readonly value: number;
}

/** A graph that a primitive applies to its operands. */
export interface Call {
  /** The graph: an input for each operand, an output for each part. */
  readonly body: Graph;
  /** How it is differentiated. */
  readonly pullback: Pullback;
  /** What a backend may compute it with; the graph is its definition. */
  readonly fused?: FusedSpec;
}

/** Parameters of `scan`, whose operands are the first carries, the xs, and constants. */
export interface ScanParams extends Call {
  /**
   * One step: from the carries, slices of the xs, and the constants to the next carries and the ys. The parts of the scan
   * are the last carries, the stacked ys, and the stacked carries as they were before each step.
   */
  readonly body: Graph;
  /** Number of carries. */
  readonly carries: number;
  /** Number of xs. */
  readonly xs: number;
  /** Number of steps. */
  readonly length: number;
  /** The axis of xs and of what is stacked that counts steps. */
  readonly axis: number;
  /** Whether the last step comes first. */
  readonly reverse: boolean;
}

/** No parameters. */
export type None = Record<never, never>;

/** Parameters of the elementwise primitives, whose names are the scalar functions of kernels. */
export interface ElementwiseParams {
  /** Negation. */
  neg: None;
  /** Absolute value. */
  abs: None;
  /** -1, 0 or 1. */
  sign: None;
  /** Rounded down. */
  floor: None;
  /** Square root. */
  sqrt: None;
  /** Exponential. */
  exp: None;
  /** exp(x) - 1, exact near 0. */
  expm1: None;
  /** Natural logarithm. */
  log: None;
  /** log(1 + x), exact near 0. */
  log1p: None;
  /** Sine. */
  sin: None;
  /** Cosine. */
  cos: None;
  /** Hyperbolic tangent. */
  tanh: None;
  /** Error function. */
  erf: None;
  /** Logical not. */
  not: None;
  /** Conversion to another dtype. */
  cast: { readonly dtype: DType };
  /** The same value under another identity. */
  alias: None;
  /** The same value, from which no gradient flows. */
  stopGradient: None;
  /** Sum. */
  add: None;
  /** Difference. */
  sub: None;
  /** Product. */
  mul: None;
  /** Quotient. */
  div: None;
  /** Power. */
  pow: None;
  /** The larger of two. */
  maximum: None;
  /** The smaller of two. */
  minimum: None;
  /** Equality. */
  eq: None;
  /** Less than. */
  lt: None;
  /** Logical and. */
  and: None;
  /** Logical or. */
  or: None;
  /** One of two values by a condition. */
  select: None;
}

/** What the bits of words stand for. */
export interface UnpackParams {
  /** Sixteen numbers, one of which is what four bits stand for; null for bytes that stand for 0 to 255. */
  readonly levels: readonly number[] | null;
}

/** Parameters of the other primitives. */
export interface StructuralParams {
  /** An argument or a captured tensor. */
  input: None;
  /** One number everywhere. */
  fill: Type & { readonly value: number };
  /** The index along an axis. */
  iota: Type & { readonly axis: number };
  /** Sum over axes. */
  sum: { readonly axes: Shape };
  /** Largest over axes. */
  max: { readonly axes: Shape };
  /** The same elements in another shape. */
  reshape: { readonly shape: Shape };
  /** Axes in another order. */
  transpose: { readonly perm: Shape };
  /** Axes of size 1 repeated. */
  expand: { readonly shape: Shape };
  /** Every step-th element of a range on each axis. */
  slice: SliceParams;
  /** Margins around and between elements. */
  pad: PadParams;
  /** Axes reversed. */
  flip: { readonly axes: Shape };
  /** Joined along an axis. */
  concat: { readonly axis: number };
  /** Elements picked along an axis. */
  gather: { readonly axis: number };
  /** Elements added where an index points along an axis. */
  scatterAdd: { readonly axis: number };
  /** Words cut along the last axis into the numbers that their bits stand for. */
  unpack: UnpackParams;
  /** Random bits of a shape for each key. */
  random: { readonly shape: Shape };
  /** Batched matrix product. */
  matmul: None;
  /** A sub-graph; its value is a tuple. */
  call: Call;
  /** A sub-graph applied step by step; its value is a tuple. */
  scan: ScanParams;
  /** One value of a tuple. */
  part: Type & { readonly index: number };
  /** The first operand, not to be used before the second is there. */
  after: None;
}

/** Parameters of every primitive by name. */
export type Params = ElementwiseParams & StructuralParams;

/** Name of a primitive. */
export type OpName = keyof Params;

/** Name of an elementwise primitive. */
export type ElementwiseName = keyof ElementwiseParams;
