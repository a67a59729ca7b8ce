/**
 * Lowering: the nodes of a graph become kernels over numbered values.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Graph } from "../backend.ts";
import { toposort } from "../graph.ts";
import type { Node, Params } from "../node.ts";
import { ops } from "../ops.ts";
import { sizeOf, stridesOf, type Type } from "../shape.ts";
import { buffersOf } from "./expression.ts";
import { type Grouping, groupNodes } from "./group.ts";
import { type Build, inline, type InlineState, load } from "./inline.ts";
import { asEpilogue, withAcc } from "./accumulate.ts";
import type { Expr, Output, SimpleKernel, View } from "./kernel.ts";
import { lowerFused } from "./fused.ts";
import { lowerLoop } from "./loop.ts";
import type { Lowered, Program } from "./lowered.ts";
import {
  type Bindings,
  bindingsOfExpr,
  fewestBindings,
  outOfReach,
} from "./reach.ts";
import { schedule } from "./schedule.ts";
import { partsRead } from "./subgraphs.ts";
import { backView, contiguous, isView } from "./view.ts";

/** What is known while a graph is lowered. */
interface State extends InlineState, Program {
  /** How the graph is cut. */
  readonly grouping: Grouping;
  /** The parts of each tuple that are read. */
  readonly parts: ReadonlyMap<Node, ReadonlyMap<number, Node>>;
  /** Whether a node may change the value of another in place: nothing else reads that, or it is donated and has been read. */
  mayChange(node: Node, operand: Node): boolean;
}

/** Turns a simplified graph into kernels that reach as much as `limits` allow; `donated` tells which inputs may change. */
export function lower(
  graph: Graph,
  limits: Bindings,
  donated: readonly boolean[] = [],
): Lowered {
  const program: Program = {
    limits,
    values: [],
    kernels: [],
    axes: [],
    loops: [],
  };
  const inputs = graph.inputs.map((node) => newValue(program, node));
  const free = new Set(graph.inputs.filter((_, i) => donated[i]));
  const outputs = lowerGraph(program, graph, inputs, free);
  // An inner loop begins after its counter is set, so after the outer one.
  const loops = program.loops.sort((a, b) => a.first - b.first);
  return { ...program, loops, outputs };
}

/** Adds the kernels of a graph whose inputs are these values; gives those of its outputs. */
function lowerGraph(
  program: Program,
  graph: Graph,
  inputs: readonly number[],
  donated: ReadonlySet<Node> = new Set(),
): number[] {
  const { unpacksOperands } = program.limits;
  const grouping = groupNodes(graph, unpacksOperands);
  const state: State = {
    ...program,
    grouping,
    ids: new Map(graph.inputs.map((node, i) => [node, inputs[i]!])),
    parts: partsRead(toposort(graph.outputs)),
    mayChange: (node, operand) =>
      (donated.has(operand) || isOwn(operand)) &&
      readersOf(graph, operand, grouping.roots).every((reader) =>
        reader === node || donated.has(operand) && state.ids.has(reader)
      ),
    materialize: (node) => materialize(state, node),
  };
  for (const node of schedule(graph, grouping.roots)) {
    materialize(state, node);
  }
  return graph.outputs.map((node) => materialize(state, node));
}

/** Whether a node has a value that no other has: of a loop, parts may be the same. */
function isOwn({ op, inputs }: Node): boolean {
  return op === "part" ? inputs[0]!.op === "call" : op !== "input";
}

/** The nodes with values of their own, and outputs, that read a node: directly or through what is computed inside them. */
function readersOf(
  { outputs }: Graph,
  operand: Node,
  roots: ReadonlySet<Node>,
): Node[] {
  const through = new Set([operand]);
  const readers = toposort(outputs).filter((node) => {
    const isReader = node.inputs.some((x) => through.has(x));
    if (isReader && !roots.has(node)) through.add(node);
    return isReader && roots.has(node);
  });
  return [...readers, ...outputs.filter((node) => through.has(node))];
}

function newValue({ values }: Program, { shape, dtype }: Type): number {
  return values.push({ shape, dtype, size: sizeOf(shape) }) - 1;
}

/** Appends a kernel; its loops are those of the space it came from unless `axes` tells otherwise. */
function emit(
  state: State,
  kernel: SimpleKernel,
  axes: readonly number[] = kernel.shape.map((_, i) => i),
): void {
  state.kernels.push(kernel);
  state.axes.push(axes);
}

/** The value that holds a node, computed now if it is not yet. */
function materialize(state: State, node: Node): number {
  const known = state.ids.get(node);
  if (known !== undefined) return known;
  const build = node.op === "pad"
    ? lowerPad
    : node.op === "concat"
    ? lowerConcat
    : node.op === "scatterAdd"
    ? lowerScatter
    : node.op === "part"
    ? lowerPart
    : lowerRoot;
  const id = build(state, node);
  state.ids.set(node, id);
  return id;
}

/** What a kernel computes, and where it stores that. */
interface Target {
  /** The node that is computed. */
  readonly root: Node;
  /** Its elements within the value of the node that is wanted. */
  readonly view: View;
}

/** Lowers an elementwise root, with the reduction or product behind it where one fits; or a reduction or product alone. */
function lowerRoot(state: State, node: Node): number {
  const target = targetOf(state, node);
  const { root } = target;
  const { kind } = ops[root.op];
  const isOwn = root === node || !state.grouping.roots.has(root);
  const candidates = isOwn && (kind === "reduce" || kind === "product")
    ? [root]
    : [...state.grouping.absorbable.get(node) ?? []].sort(byWork);
  for (const acc of [...candidates, null]) {
    if (acc && state.ids.has(acc)) continue;
    const id = tryRoot(state, node, target, acc);
    if (id !== null) return id;
  }
  throw new Error(`Cotan has a bug: ${node.op} was not lowered`);
}

/** A node as what is behind its movement, stored in its order: elements are laid out anew as they are computed. */
function targetOf(state: State, node: Node): Target {
  let root = node, view = contiguous(node.shape);
  while (isView(root)) {
    const [x] = root.inputs;
    const back = backView(root, view);
    if (!back) break;
    root = x!;
    view = back;
    if (state.grouping.roots.has(root) || state.ids.has(root)) break;
  }
  return { root, view };
}

/** Products before reductions, then the larger first. */
function byWork(a: Node, b: Node): number {
  const work = (x: Node) =>
    sizeOf(x.inputs[0]!.shape) * (x.op === "matmul" ? 1e9 : 1);
  return work(b) - work(a);
}

function tryRoot(
  state: State,
  node: Node,
  { root, view }: Target,
  acc: Node | null,
): number | null {
  const { limits, limits: { buffersPerKernel } } = state;
  for (;;) {
    const known = state.ids.size;
    const build: Build = { root: node, acc, exprs: new Map() };
    const inner = inline(state, build, root);
    const output = { view, expr: inner };
    const stored = acc ? asEpilogue(output, root, acc) : output;
    if (!stored) return null;
    const shape = acc ? acc.shape : root.shape;
    const make = acc ? withAcc(state, acc, build) : {
      kernel: (outputs: Output[]): SimpleKernel => {
        return { kind: "map", shape, outputs };
      },
      axes: shape.map((_, i) => i),
      reads: new Set<number>(),
    };
    const kernel = make.kernel([{ buffer: state.values.length, ...stored }]);
    if (fewestBindings(kernel, limits) > buffersPerKernel) {
      // The wider side: what is reduced, or what follows.
      const body = acc && acc.op !== "matmul" && make.reads.size > 2;
      const from = body ? acc.inputs : root.inputs;
      const node = split(state, build, from);
      if (node) {
        state.grouping.roots.add(node);
        continue;
      }
      // What was inlined first may have been computed since.
      if (state.ids.size > known) continue;
      // An epilogue of single buffers, one too many beside the accumulator's.
      if (acc && acc !== root) return null;
      throw outOfReach(kernel, state.values, limits);
    }
    emit(state, kernel, make.axes);
    return newValue(state, node);
  }
}

/** A node within a kernel that reads too many buffers which is best computed on its own: the widest that fits alone. */
function split(
  state: State,
  build: Build,
  from: readonly Node[],
): Node | null {
  let operands = from;
  for (;;) {
    const inner = operands
      .map(throughViews)
      .filter((x) => build.exprs.has(x) && !state.ids.has(x));
    const widths = inner.map((x) =>
      bindingsOfExpr(build.exprs.get(x)!, state.limits)
    );
    const widest = widths.indexOf(Math.max(...widths));
    const node = inner[widest];
    if (!node || widths[widest]! < 2) return null;
    if (widths[widest]! < state.limits.buffersPerKernel) return node;
    operands = node.inputs;
  }
}

function throughViews(node: Node): Node {
  return isView(node) ? throughViews(node.inputs[0]!) : node;
}

/** Stores a node's elements through a view of a value. */
function store(state: State, node: Node, buffer: number, view: View): void {
  const build: Build = { root: null, acc: null, exprs: new Map() };
  let expr = inline(state, build, node);
  const { limits } = state;
  if (bindingsOfExpr(expr, limits) + 1 > limits.buffersPerKernel) {
    expr = load(state, node);
  }
  const { shape } = node;
  if (sizeOf(shape) === 0) return;
  emit(state, { kind: "map", shape, outputs: [{ buffer, view, expr }] });
}

function lowerPad(state: State, node: Node): number {
  const [x] = node.inputs;
  const { low, interior, value } = node.params as Params["pad"];
  const id = newValue(state, node);
  const view = contiguous(node.shape);
  const { dtype, shape } = node;
  if (sizeOf(shape) > sizeOf(x!.shape)) {
    const expr: Expr = { kind: "const", value, dtype };
    emit(state, {
      kind: "map",
      shape,
      outputs: [{ buffer: id, view, expr }],
    });
  }
  store(state, x!, id, {
    offset: view.strides.reduce((sum, s, i) => sum + s * low[i]!, 0),
    strides: view.strides.map((s, i) => s * (interior[i]! + 1)),
  });
  return id;
}

function lowerConcat(state: State, node: Node): number {
  const { axis } = node.params as Params["concat"];
  const id = newValue(state, node);
  const strides = stridesOf(node.shape);
  let at = 0;
  for (const x of node.inputs) {
    store(state, x, id, { offset: at * strides[axis]!, strides });
    at += x.shape[axis]!;
  }
  return id;
}

function lowerScatter(state: State, node: Node): number {
  const [x, index, source] = node.inputs;
  const { axis } = node.params as Params["scatterAdd"];
  const strides = stridesOf(node.shape);
  const { shape } = index!;
  const { limits } = state;
  const copy = (): number => {
    const id = newValue(state, node);
    store(state, x!, id, { offset: 0, strides });
    return id;
  };
  if (sizeOf(shape) === 0 || node.shape[axis] === 0) return copy();
  const build = (operand: Node, room: number): Expr => {
    const fresh: Build = { root: null, acc: null, exprs: new Map() };
    const expr = inline(state, fresh, operand);
    return bindingsOfExpr(expr, limits) > room ? load(state, operand) : expr;
  };
  const scatter = (
    buffer: number,
    index: Expr,
    source: Expr,
  ): SimpleKernel => ({
    kind: "scatter",
    shape,
    axis,
    buffer,
    view: { offset: 0, strides: strides.map((s, i) => i === axis ? 0 : s) },
    stride: strides[axis]!,
    size: node.shape[axis]!,
    index,
    source,
  });
  const none: Expr = { kind: "const", value: 0, dtype: node.dtype };
  const left = limits.buffersPerKernel -
    fewestBindings(scatter(state.values.length, none, none), limits);
  const room = Math.floor(left / 2);
  const operands = [build(index!, room), build(source!, room)] as const;
  const own = state.ids.get(x!);
  const isRead = own !== undefined &&
    operands.some((expr) => buffersOf(expr).has(own));
  const id = own !== undefined && !isRead && state.mayChange(node, x!)
    ? own
    : copy();
  const kernel = scatter(id, ...operands);
  if (left < 2) throw outOfReach(kernel, state.values, limits);
  emit(state, kernel);
  return id;
}

function lowerPart(state: State, node: Node): number {
  const [tuple] = node.inputs;
  const parts = state.parts.get(tuple!)!;
  const context = {
    ...state,
    emit: (kernel: SimpleKernel) => emit(state, kernel),
    create: (type: Type) => newValue(state, type),
    store: (x: Node, id: number) => store(state, x, id, contiguous(x.shape)),
    lower: (graph: Graph, inputs: readonly number[]) =>
      lowerGraph(state, graph, inputs),
  };
  const lower = tuple!.op === "scan" ? lowerLoop : lowerFused;
  const values = lower(context, tuple!, new Set(parts.keys()));
  for (const [index, part] of parts) state.ids.set(part, values.get(index)!);
  return state.ids.get(node)!;
}
