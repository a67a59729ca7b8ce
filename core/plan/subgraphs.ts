/**
 * Sub-graphs of a graph to be planned: calls become what they call or stay one kernel, loops lose what nobody reads.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { type FusedKind, resultsOf } from "../fused_spec.ts";
import { splice, toposort } from "../graph.ts";
import type { Call, Graph, Node, Params, ScanParams } from "../node.ts";
import { bind, part } from "../ops.ts";

/** The same graph without calls, but for those of functions that a backend has kernels for. */
export function inlineCalls(
  graph: Graph,
  fused: ReadonlySet<FusedKind> = new Set(),
): Graph {
  const order = toposort(graph.outputs);
  if (!order.some(({ op }) => op === "part")) return graph;
  const simpler = new Map<Node, Node>();
  const results = new Map<Node, Node[]>();
  const read = partsRead(order);
  const isKernel = (node: Node): boolean => {
    const { fused: spec } = node.params as Partial<Call>;
    return !!spec && fused.has(spec.kind) &&
      Math.max(...read.get(node)!.keys()) < resultsOf[spec.kind];
  };
  for (const node of order) {
    const inputs = node.inputs.map((x) => simpler.get(x) ?? x);
    const changed = inputs.some((x, i) => x !== node.inputs[i]);
    const own = changed ? { ...node, inputs } : node;
    if (isKernel(node)) {
      simpler.set(node, own);
    } else if (node.op === "call" || node.op === "scan") {
      const params = node.params as Call;
      const body = inlineCalls(params.body, fused);
      if (node.op === "call") results.set(node, splice(body, inputs));
      else simpler.set(node, { ...own, params: { ...params, body } });
    } else {
      const parts = node.op === "part" && results.get(node.inputs[0]!);
      const { index } = node.params as Params["part"];
      simpler.set(node, parts ? parts[index]! : own);
    }
  }
  return withOutputs(graph, simpler);
}

function withOutputs(graph: Graph, by: ReadonlyMap<Node, Node>): Graph {
  return {
    inputs: graph.inputs,
    outputs: graph.outputs.map((node) => by.get(node) ?? node),
  };
}

/** The same graph whose loops compute only what is read of them. */
export function pruneLoops(graph: Graph): Graph {
  const order = toposort(graph.outputs);
  const read = partsRead(order);
  if (read.size === 0) return graph;
  const simpler = new Map<Node, Node>();
  const renumber = new Map<Node, (index: number) => number>();
  for (const node of order) {
    const inputs = node.inputs.map((x) => simpler.get(x)!);
    const changed = inputs.some((x, i) => x !== node.inputs[i]);
    let own = changed ? { ...node, inputs } : node;
    if (node.op === "scan") {
      const pruned = prune(own, new Set(read.get(node)!.keys()));
      own = pruned.loop;
      renumber.set(node, pruned.renumber);
    } else if (node.op === "part") {
      const { index } = node.params as Params["part"];
      const to = renumber.get(node.inputs[0]!);
      if (to) own = part(inputs[0]!, to(index), node);
    }
    simpler.set(node, own);
  }
  return withOutputs(graph, simpler);
}

/** The parts of each tuple that are read, by their numbers. */
export function partsRead(
  order: readonly Node[],
): ReadonlyMap<Node, ReadonlyMap<number, Node>> {
  const read = new Map<Node, Map<number, Node>>();
  for (const node of order) {
    if (node.op !== "part") continue;
    const [tuple] = node.inputs;
    const { index } = node.params as Params["part"];
    read.set(tuple!, (read.get(tuple!) ?? new Map()).set(index, node));
  }
  return read;
}

/** A loop with the parts that are read, and what becomes of their numbers. */
function prune(
  loop: Node,
  read: ReadonlySet<number>,
): { loop: Node; renumber: (index: number) => number } {
  const params = loop.params as ScanParams;
  const { body, carries } = params;
  const stacks = body.outputs.length;
  const live = new Set<number>();
  for (const i of read) live.add(i < stacks ? i : i - stacks);
  // A carry is read as well where a step reads it for another.
  let reached: Set<Node>;
  for (let size = -1; size !== live.size;) {
    size = live.size;
    reached = new Set(toposort([...live].map((i) => body.outputs[i]!)));
    for (let i = 0; i < carries; i++) {
      if (reached.has(body.inputs[i]!)) live.add(i);
    }
  }
  const outputs = body.outputs.map((_, i) => i).filter((i) => live.has(i));
  const inputs = body.inputs.map((_, i) => i).filter((i) =>
    i < carries ? live.has(i) : reached.has(body.inputs[i]!)
  );
  const isX = (i: number) => i >= carries && i < carries + params.xs;
  return {
    loop: bind("scan", inputs.map((i) => loop.inputs[i]!), {
      ...params,
      body: {
        inputs: inputs.map((i) => body.inputs[i]!),
        outputs: outputs.map((i) => body.outputs[i]!),
      },
      carries: outputs.filter((i) => i < carries).length,
      xs: inputs.filter(isX).length,
    }),
    renumber: (index) =>
      index < stacks
        ? outputs.indexOf(index)
        : outputs.length + outputs.indexOf(index - stacks),
  };
}
