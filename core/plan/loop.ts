/**
 * Lowering of loops: the kernels of one step, which runs again and again, and what goes around them.
 *
 * A counter, the carries and the stacks are values that are set before the loop. A step reads the slices of the xs where
 * the counter points, stores what is stacked there, and overwrites the carries at its end.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { DType } from "../dtype.ts";
import { splice } from "../graph.ts";
import { isHalf } from "../half.ts";
import type { Graph, Node, ScanParams } from "../node.ts";
import { bind, input, ops } from "../ops.ts";
import { type Shape, sizeOf, stridesOf, type Type } from "../shape.ts";
import { storeInCarry } from "./carry.ts";
import type { Expr, Loop, SimpleKernel } from "./kernel.ts";
import type { Value } from "./lowered.ts";
import { simplify } from "./simplify.ts";
import { contiguous, isView, isWidened } from "./view.ts";

/** What lowering a loop needs of the lowering of the graph around it. */
export interface LoopContext {
  /** The work so far. */
  readonly kernels: SimpleKernel[];
  /** All values so far. */
  readonly values: readonly Value[];
  /** The loops so far. */
  readonly loops: Loop[];
  /** Adds a kernel. */
  readonly emit: (kernel: SimpleKernel) => void;
  /** A new value. */
  readonly create: (type: Type) => number;
  /** The value that holds a node. */
  readonly materialize: (node: Node) => number;
  /** Stores a node in a value. */
  readonly store: (node: Node, value: number) => void;
  /** Adds the kernels of a graph whose inputs are these values; gives those of its outputs. */
  readonly lower: (graph: Graph, inputs: readonly number[]) => number[];
}

const i32: DType = "i32";
const scalar = { offset: 0, strides: [] };

/** Adds the kernels of a loop; gives the value of each part that is read. */
export function lowerLoop(
  context: LoopContext,
  loop: Node,
  read: ReadonlySet<number>,
): Map<number, number> {
  const { kernels, loops, create, emit } = context;
  const { body, carries: count, length, reverse, axis } = loop
    .params as ScanParams;
  const stacks = body.outputs.length;
  const carried = body.inputs.slice(0, count);
  const ys = body.outputs.slice(count);
  const kept = [...ys, ...carried].flatMap((type, i) =>
    read.has(count + i) ? [{ type, part: count + i }] : []
  );
  const { graph, outside } = stepOf(
    loop,
    kept.flatMap(({ part }) => part < stacks ? [part] : []),
  );
  const given = outside.map(context.materialize);
  const carries = loop.inputs.slice(0, count).map((node) => {
    const id = create(node);
    context.store(node, id);
    return id;
  });
  const parts = new Map<number, number>(carries.map((id, i) => [i, id]));
  for (const { type, part } of kept) {
    const shape = type.shape.toSpliced(axis, 0, length);
    const id = create({ shape, dtype: stackedAs(type.dtype) });
    parts.set(part, id);
    emit(setTo(0, id, shape, stackedAs(type.dtype)));
  }
  const counter = create({ shape: [], dtype: i32 });
  emit(setTo(reverse ? length - 1 : 0, counter, [], i32));

  const first = kernels.length;
  const keep = (part: number, type: Type, id: number): void => {
    const { shape } = type;
    if (sizeOf(shape) === 0) return;
    const stack = { id: parts.get(part)!, dtype: stackedAs(type.dtype) };
    const value = { id, shape, dtype: context.values[id]!.dtype };
    emit(append(stack, value, { axis, length, counter }));
  };
  for (const { type, part } of kept) {
    if (part >= stacks) keep(part, type, carries[part - stacks]!);
  }
  const results = context.lower(graph, [...carries, counter, ...given]);
  let next = count;
  for (const { type, part } of kept) {
    if (part < stacks) keep(part, type, results[next++]!);
  }
  // A step that gives one carry for another must not read what it has just overwritten.
  const sources = carried.map((type, i) => {
    const source = results[i]!;
    if (source === carries[i] || !carries.includes(source)) return source;
    const temporary = create(type);
    copy(source, temporary, type).forEach(emit);
    return temporary;
  });
  carried.forEach((type, i) => {
    const source = sources[i]!, carry = carries[i]!;
    if (source === carry) return;
    if (
      carries.includes(source) || !storeInCarry(context, first, source, carry)
    ) {
      copy(source, carry, type).forEach(emit);
    } else {
      sources.forEach((other, j) => other === source && (sources[j] = carry));
    }
  });
  emit(move(counter, reverse ? -1 : 1));
  loops.push({ first, end: kernels.length, trips: length });

  for (const { type, part } of kept) {
    const { dtype } = type;
    if (stackedAs(dtype) === dtype) continue;
    const shape = [sizeOf(type.shape) * length];
    const id = create({ shape, dtype });
    const arg = load(parts.get(part)!, stackedAs(dtype));
    emit(map(shape, id, { kind: "cast", arg, dtype }));
    parts.set(part, id);
  }
  return parts;
}

/** Bools are added up as integers, halves as f32. */
function stackedAs(dtype: DType): DType {
  return dtype === "bool" ? i32 : isHalf(dtype) ? "f32" : dtype;
}

/**
 * One step as a graph: from the carries, the counter, and nodes from outside to the next carries and the ys that are
 * read. Views of what comes from outside, and numbers, are part of it.
 */
function stepOf(
  loop: Node,
  ys: readonly number[],
): { graph: Graph; outside: readonly Node[] } {
  const { body, carries: count, xs, axis } = loop.params as ScanParams;
  const carries = body.inputs.slice(0, count).map(input);
  const counter = input({ shape: [], dtype: i32 });
  const outside = new Map<Node, Node>();
  const reach = (node: Node): Node => {
    const { op, inputs: [x] } = node;
    if (op === "after") return reach(x!);
    if (isView(node) || isWidened(node)) {
      return { ...node, inputs: [reach(x!)] };
    }
    if (op !== "input" && ops[op].kind === "leaf") return node;
    let inner = outside.get(node);
    if (!inner) outside.set(node, inner = input(node));
    return inner;
  };
  const operands = loop.inputs.slice(count).map((node, i) =>
    i < xs ? sliceAt(reach(node), counter, axis) : reach(node)
  );
  const outputs = splice(body, [...carries, ...operands]);
  const graph = simplify({
    inputs: [...carries, counter, ...outside.values()],
    outputs: [
      // A carry without elements stays as it is: nothing has to be computed.
      ...carries.map((x, i) => sizeOf(x.shape) === 0 ? x : outputs[i]!),
      ...ys.map((i) => {
        const dtype = stackedAs(outputs[i]!.dtype);
        return bind("cast", [outputs[i]!], { dtype });
      }),
    ],
  });
  return { graph, outside: [...outside.keys()] };
}

/** The slice of a node where a counter points along an axis. */
function sliceAt(node: Node, counter: Node, axis: number): Node {
  const shape = node.shape.with(axis, 1);
  const one = bind("reshape", [counter], { shape: shape.map(() => 1) });
  const index = bind("expand", [one], { shape });
  const slice = bind("gather", [node, index], { axis });
  return bind("reshape", [slice], { shape: shape.toSpliced(axis, 1) });
}

function load(buffer: number, dtype: DType, view = contiguous([1])): Expr {
  return { kind: "load", buffer, view, dtype };
}

function map(shape: Shape, buffer: number, expr: Expr): SimpleKernel {
  const view = contiguous(shape);
  return { kind: "map", shape, outputs: [{ buffer, view, expr }] };
}

function setTo(
  value: number,
  id: number,
  shape: Shape,
  dtype: DType,
): SimpleKernel {
  return map(shape, id, { kind: "const", value, dtype });
}

function copy(
  from: number,
  to: number,
  { shape, dtype }: Type,
): SimpleKernel[] {
  const size = sizeOf(shape);
  return size === 0 ? [] : [map([size], to, load(from, dtype))];
}

function move(counter: number, by: number): SimpleKernel {
  const step: Expr = { kind: "const", value: by, dtype: i32 };
  const args = [load(counter, i32, scalar), step];
  return map([], counter, { kind: "call", op: "add", args, dtype: i32 });
}

/** Adds a value where the counter points in a stack of zeros. */
function append(
  stack: { readonly id: number; readonly dtype: DType },
  { id, shape, dtype }: Type & { readonly id: number },
  at: Pick<ScanParams, "axis" | "length"> & { readonly counter: number },
): SimpleKernel {
  const { axis, length } = at;
  const strides = stridesOf(shape.toSpliced(axis, 0, length));
  const one = shape.toSpliced(axis, 0, 1);
  const source = load(id, dtype, contiguous(one));
  return {
    kind: "scatter",
    shape: one,
    axis,
    buffer: stack.id,
    view: { offset: 0, strides: strides.with(axis, 0) },
    stride: strides[axis]!,
    size: length,
    index: load(at.counter, i32, { offset: 0, strides: one.map(() => 0) }),
    source: stack.dtype === dtype
      ? source
      : { kind: "cast", arg: source, dtype: stack.dtype },
  };
}
