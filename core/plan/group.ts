/**
 * Grouping: which nodes of a graph are computed into buffers, and which only inside the kernels that use them.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Graph } from "../backend.ts";
import { toposort } from "../graph.ts";
import type { Node, OpName } from "../node.ts";
import { ops } from "../ops.ts";
import { sizeOf } from "../shape.ts";
import type { View } from "./kernel.ts";
import { contiguous, isView, moveView } from "./view.ts";

/** A kernel to be: its root node, or an object of its own for one of several kernels of a node. */
type Group = Node | object;

/** What the consumers of a node ask of it. */
interface Demand {
  /** The kernels that use it. */
  readonly groups: Set<Group>;
  /** Whether one of them must read it from a buffer. */
  needsBuffer: boolean;
  /** Whether one of them uses an element several times, through `expand`. */
  repeated: boolean;
}

/** How a graph is cut into kernels. */
export interface Grouping {
  /** Nodes that are computed into buffers. */
  readonly roots: Set<Node>;
  /** For an elementwise root, the reductions and products that its kernel could compute as well. */
  readonly absorbable: ReadonlyMap<Node, readonly Node[]>;
}

/** Scalar work of an op relative to an addition; what is not listed is costly. */
const WORK: { readonly [K in OpName]?: number } = {
  alias: 0,
  stopGradient: 0,
  fill: 0,
  iota: 0,
  neg: 1,
  abs: 1,
  sign: 1,
  floor: 1,
  not: 1,
  cast: 1,
  add: 1,
  sub: 1,
  mul: 1,
  maximum: 1,
  minimum: 1,
  eq: 1,
  lt: 1,
  and: 1,
  or: 1,
  select: 1,
  div: 2,
  sqrt: 2,
  exp: 8,
  tanh: 8,
};

/** Most work that is rather done again in each of several kernels than stored, where it reads one buffer. */
const RECOMPUTED = 16;

/** The same where an element is used many times in one kernel. */
const REPEATED = 2;

/** The same where no buffer is read: masks and positions. */
const POSITIONS = 8;

/** Work that is never done twice. */
const COSTLY = 100;

/** Times that the cut is made anew with what is known of the one before. */
const ROUNDS = 3;

/** Cuts a graph into kernels. */
export function groupNodes(graph: Graph): Grouping {
  const order = toposort(graph.outputs);
  const layouts = layoutsOf(order);
  // What it costs to compute a node again depends on what is stored, and the other way round.
  let grouping = cut(graph, order, layouts, costsOf(order, new Set()));
  for (let round = 1; round < ROUNDS; round++) {
    grouping = cut(graph, order, layouts, costsOf(order, grouping.roots));
  }
  return grouping;
}

/** Cuts a graph from the outputs back. */
function cut(
  graph: Graph,
  order: readonly Node[],
  layouts: ReadonlySet<Node>,
  costs: ReadonlyMap<Node, Cost>,
): Grouping {
  const outputs = new Set(graph.outputs);
  const roots = new Set<Node>();
  const absorbable = new Map<Node, Node[]>();
  const demands = new Map<Node, Demand>();
  const demandOn = (node: Node): Demand => {
    let demand = demands.get(node);
    if (!demand) {
      demand = { groups: new Set(), needsBuffer: false, repeated: false };
      demands.set(node, demand);
    }
    return demand;
  };
  const use = (node: Node, groups: Iterable<Group>, buffer = false): void => {
    const demand = demandOn(node);
    for (const group of groups) demand.groups.add(group);
    demand.needsBuffer ||= buffer;
  };

  for (const node of order.toReversed()) {
    const demand = demandOn(node);
    const isOutput = outputs.has(node);
    const [x, ...rest] = node.inputs;
    if (isView(node)) {
      if (layouts.has(node) || isOutput) {
        roots.add(node);
        use(x!, [node]);
        continue;
      }
      use(x!, demand.groups, demand.needsBuffer);
      demandOn(x!).repeated ||= demand.repeated || node.op === "expand";
      continue;
    }
    switch (ops[node.op].kind) {
      case "leaf":
        if (isOutput) roots.add(node);
        break;
      case "reduce":
      case "product": {
        const [group] = demand.groups;
        const free = !isOutput && !demand.needsBuffer && !demand.repeated;
        if (free && demand.groups.size === 1 && isMapRoot(group!, roots)) {
          const root = group as Node;
          absorbable.set(root, [...absorbable.get(root) ?? [], node]);
        } else {
          roots.add(node);
        }
        const isMatmul = ops[node.op].kind === "product";
        for (const operand of node.inputs) use(operand, [node], isMatmul);
        break;
      }
      case "move":
        // Margins and joined pieces: a kernel stores each operand into its part of the result.
        roots.add(node);
        for (const operand of node.inputs) use(operand, [{}]);
        break;
      case "index":
      case "elementwise": {
        const isScatter = node.op === "scatterAdd";
        const cost = costs.get(node)!;
        const isRoot = isOutput || isScatter || demand.needsBuffer ||
          demand.groups.size > 1 && !isCheap(cost, RECOMPUTED) ||
          demand.repeated && !isCheap(cost, REPEATED);
        if (isRoot) roots.add(node);
        const groups = isRoot ? [node] : [...demand.groups];
        if (isScatter) {
          for (const operand of node.inputs) use(operand, [{}]);
          break;
        }
        const buffers = node.op === "gather" || node.op === "random";
        use(x!, groups, buffers);
        for (const operand of rest) use(operand, groups, node.op === "random");
        if (!isRoot && demand.repeated) {
          for (const operand of node.inputs) demandOn(operand).repeated = true;
        }
      }
    }
  }
  return { roots, absorbable };
}

function isMapRoot(group: Group, roots: ReadonlySet<Node>): boolean {
  if (!roots.has(group as Node)) return false;
  const { kind } = ops[(group as Node).op];
  return kind === "elementwise" || isView(group as Node);
}

/** Movement nodes that no view of the buffer behind them can be: the elements must be laid out anew. */
function layoutsOf(order: readonly Node[]): Set<Node> {
  const layouts = new Set<Node>();
  const views = new Map<Node, View>();
  for (const node of order) {
    const moved = isView(node)
      ? moveView(node, views.get(node.inputs[0]!)!)
      : null;
    if (isView(node) && !moved) layouts.add(node);
    views.set(node, moved ?? contiguous(node.shape));
  }
  return layouts;
}

/** What it takes to compute a node inside a kernel. */
interface Cost {
  /** Scalar work for an element. */
  readonly work: number;
  /** Buffers that it reads, but for those that are repeated along an axis. */
  readonly loads: number;
}

function isCheap({ work, loads }: Cost, most: number): boolean {
  return work <= (loads === 0 ? POSITIONS : most) && loads <= 1;
}

/**
 * Elementwise nodes behind which a reduction or product has no other use: stored instead of it, they cost no more. Only
 * such as it is not smaller than.
 */
function epiloguesOf(order: readonly Node[]): Set<Node> {
  const uses = new Map<Node, number>();
  for (const node of order) {
    for (const x of node.inputs) uses.set(x, (uses.get(x) ?? 0) + 1);
  }
  const epilogues = new Set<Node>();
  for (const node of order) {
    if (ops[node.op].kind !== "elementwise" && !isView(node)) continue;
    const follows = node.inputs.some((x) => {
      const { kind } = ops[x.op];
      const isFresh = kind === "reduce" || kind === "product" ||
        epilogues.has(x);
      return isFresh && uses.get(x) === 1 &&
        sizeOf(x.shape) === sizeOf(node.shape);
    });
    if (follows) epilogues.add(node);
  }
  return epilogues;
}

function costsOf(
  order: readonly Node[],
  roots: ReadonlySet<Node>,
): Map<Node, Cost> {
  const costs = new Map<Node, Cost>();
  const epilogues = epiloguesOf(order);
  // What is computed and read for a node, each once; null where it is too much.
  const parts = new Map<Node, ReadonlySet<Node> | null>();
  for (const node of order) {
    const { kind } = ops[node.op];
    const isInline = kind === "elementwise" || isView(node);
    if (!isInline || node.inputs.some((x) => parts.get(x) === null)) {
      const isLeaf = node.op === "fill" || node.op === "iota";
      const work = isLeaf ? 0 : kind === "index" || isInline ? COSTLY : 0;
      costs.set(node, { work, loads: isLeaf ? 0 : 1 });
      parts.set(node, isInline ? null : new Set(isLeaf ? [] : [node]));
    } else {
      const all = new Set<Node>([node]);
      for (const x of node.inputs) for (const n of parts.get(x)!) all.add(n);
      let work = 0, loads = 0;
      for (const n of all) {
        const isStored = n !== node && roots.has(n) || !isComputed(n);
        if (!isStored) work += isView(n) ? 0 : WORK[n.op] ?? COSTLY;
        else if (sizeOf(n.shape) >= sizeOf(node.shape)) loads++;
      }
      if (epilogues.has(node) && !isView(node)) work = COSTLY;
      costs.set(node, { work, loads });
      // Consumers read a root from its buffer.
      const seen = roots.has(node) ? new Set([node]) : all;
      parts.set(node, work > COSTLY ? null : seen);
    }
  }
  return costs;
}

function isComputed(node: Node): boolean {
  return ops[node.op].kind === "elementwise" || isView(node);
}
