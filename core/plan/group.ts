/**
 * Grouping: which nodes of a graph are computed into buffers, and which only inside the kernels that use them.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Graph } from "../backend.ts";
import { toposort } from "../graph.ts";
import type { Node, OpName, Params } from "../node.ts";
import { ops } from "../ops.ts";
import { isView } from "./view.ts";

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
const LIGHT: ReadonlySet<OpName> = new Set<OpName>([
  "neg",
  "abs",
  "sign",
  "floor",
  "not",
  "cast",
  "add",
  "sub",
  "mul",
  "maximum",
  "minimum",
  "eq",
  "lt",
  "and",
  "or",
  "select",
]);

/** Light operations that are rather computed again in each of several kernels than stored. */
const RECOMPUTED = 4;

/** The same where an element is used many times in one kernel. */
const REPEATED = 2;

/** The same where no buffer is read: masks and positions. */
const INDEX_ONLY = 8;

/** Cuts a graph into kernels, from the outputs back. */
export function groupNodes(graph: Graph): Grouping {
  const order = toposort(graph.outputs);
  const outputs = new Set(graph.outputs);
  const roots = new Set<Node>();
  const absorbable = new Map<Node, Node[]>();
  const costs = costsOf(order);
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

  for (const node of order.reverse()) {
    const demand = demandOn(node);
    const isOutput = outputs.has(node);
    const [x, ...rest] = node.inputs;
    if (isView(node)) {
      if (isOutput) roots.add(node);
      const groups = isOutput ? [...demand.groups, node] : demand.groups;
      use(x!, groups, demand.needsBuffer && !isOutput);
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
      case "tuple":
        if (node.op === "part") {
          roots.add(node);
          break;
        }
        // The first carries are copied anyway.
        node.inputs.forEach((operand, i) =>
          use(operand, [{}], i >= (node.params as Params["scan"]).carries)
        );
        break;
      case "move":
        // Margins and joined pieces: a kernel stores each operand into its part of the result.
        roots.add(node);
        for (const operand of node.inputs) use(operand, [{}]);
        break;
      case "index":
      case "elementwise": {
        const isScatter = node.op === "scatterAdd";
        const isRoot = isOutput || isScatter || demand.needsBuffer ||
          demand.groups.size > 1 && !isCheap(costs.get(node)!, RECOMPUTED) ||
          demand.repeated && !isCheap(costs.get(node)!, REPEATED);
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
  return roots.has(group as Node) &&
    ops[(group as Node).op].kind === "elementwise";
}

/** Scalar work of a node when it is computed inside a kernel, and whether it then reads buffers. */
interface Cost {
  readonly work: number;
  readonly loads: number;
}

function isCheap({ work, loads }: Cost, most: number): boolean {
  return work <= (loads === 0 ? INDEX_ONLY : most) && loads <= 1;
}

function costsOf(order: readonly Node[]): Map<Node, Cost> {
  const costs = new Map<Node, Cost>();
  for (const node of order) {
    const { kind } = ops[node.op];
    if (node.op === "fill" || node.op === "iota") {
      costs.set(node, { work: 0, loads: 0 });
    } else if (kind === "elementwise" || isView(node)) {
      const own = isView(node) ? 0 : LIGHT.has(node.op) ? 1 : 100;
      const operands = isView(node) ? node.inputs.slice(0, 1) : node.inputs;
      const inner = operands.map((x) => costs.get(x)!);
      costs.set(node, {
        work: inner.reduce((sum, { work }) => sum + work, own),
        loads: inner.reduce((sum, { loads }) => sum + loads, 0),
      });
    } else {
      // Inputs and all else stand in buffers, or are too much to compute twice.
      costs.set(node, { work: kind === "index" ? 100 : 0, loads: 1 });
    }
  }
  return costs;
}
