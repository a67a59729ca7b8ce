/**
 * Grouping: which nodes of a graph are computed into buffers, and which only inside the kernels that use them.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Graph } from "../backend.ts";
import { toposort, usesOf } from "../graph.ts";
import type { Node, OpName, Params } from "../node.ts";
import { ops } from "../ops.ts";
import { type Cost, costsOf, isCheap, RECOMPUTED, REPEATED } from "./cost.ts";
import type { View } from "./kernel.ts";
import type { Cut } from "./inline.ts";
import { packedOperands } from "./operand.ts";
import { contiguous, isView, moveView, narrowed } from "./view.ts";

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
export interface Grouping extends Cut {
  /** Nodes that are computed into buffers. */
  readonly roots: Set<Node>;
  /** For an elementwise root, the reductions and products that its kernel could compute as well. */
  readonly absorbable: ReadonlyMap<Node, readonly Node[]>;
}

/** Times that the cut is made anew with what is known of the one before. */
const ROUNDS = 3;

/** Cuts a graph into kernels. */
export function groupNodes(graph: Graph, unpacks = false): Grouping {
  const order = toposort(graph.outputs);
  const layouts = layoutsOf(order);
  const uses = usesOf(order);
  const packed = packedOperands(unpacks ? order : []);
  // What it costs to compute a node again depends on what is stored, and the other way round.
  let grouping = cut(
    graph,
    order,
    layouts,
    uses,
    packed,
    costsOf(order, uses, new Set()),
  );
  for (let round = 1; round < ROUNDS; round++) {
    grouping = cut(
      graph,
      order,
      layouts,
      uses,
      packed,
      costsOf(order, uses, grouping.roots),
    );
  }
  return grouping;
}

/** Movement by which an element comes to stand in another place. */
const moves: ReadonlySet<OpName> = new Set(["transpose", "slice", "flip"]);

/** Cuts a graph from the outputs back. */
function cut(
  graph: Graph,
  order: readonly Node[],
  layouts: ReadonlySet<Node>,
  uses: ReadonlyMap<Node, number>,
  packed: ReadonlySet<Node>,
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
      // Seen in two places, it would be computed twice for an element, and what is behind it four times.
      if (moves.has(node.op) && uses.get(x!)! > 1) demandOn(x!).repeated = true;
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
        for (const operand of node.inputs) {
          const isStored = isMatmul && !packed.has(operand);
          use(isMatmul ? narrowed(operand) : operand, [node], isStored);
        }
        break;
      }
      case "tuple":
        if (node.op === "part") {
          roots.add(node);
          break;
        }
        // The first carries of a loop are copied anyway.
        node.inputs.forEach((operand, i) => {
          const { carries = 0 } = node.params as Partial<Params["scan"]>;
          const isRead = i >= carries;
          use(isRead ? narrowed(operand) : operand, [{}], isRead);
        });
        break;
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
        const buffers = ops[node.op].kind === "index";
        use(x!, groups, buffers);
        for (const operand of rest) use(operand, groups, node.op === "random");
        if (!isRoot && demand.repeated) {
          for (const operand of node.inputs) demandOn(operand).repeated = true;
        }
      }
    }
  }
  return { roots, packed, absorbable };
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
