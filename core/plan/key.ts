/**
 * A text that two graphs share exactly when they have the same structure.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Graph } from "../backend.ts";
import { toposort } from "../graph.ts";
import type { Node } from "../node.ts";
import { format } from "../shape.ts";

/** The structure of a graph: types of the inputs, then each node with its operands and parameters. */
export function graphKey(graph: Graph): string {
  const ids = new Map<Node, number>();
  graph.inputs.forEach((node) => ids.set(node, ids.size));
  const parts = [graph.inputs.map(format).join()];
  for (const node of toposort(graph.outputs)) {
    if (ids.has(node)) continue;
    ids.set(node, ids.size);
    const operands = node.inputs.map((x) => ids.get(x)).join();
    parts.push(`${node.op}(${operands})${JSON.stringify(node.params, inFull)}`);
  }
  parts.push(graph.outputs.map((node) => ids.get(node)).join());
  return parts.join(";");
}

/**
 * A replacer for JSON, which writes NaN and infinities as null, and -0 as 0: here they differ. A graph becomes its key.
 */
export function inFull(name: string, value: unknown): unknown {
  if (name === "body") return graphKey(value as Graph);
  if (typeof value !== "number" || Number.isFinite(value) && value !== 0) {
    return value;
  }
  return Object.is(value, -0) ? "-0" : String(value);
}
