/**
 * Sub-graphs: a function traced on its own, as one node of the graph around it.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { currentTrace, withTrace } from "./context.ts";
import { invariant } from "./errors.ts";
import type { FusedSpec } from "./fused_spec.ts";
import { substitute, toposort } from "./graph.ts";
import type { Graph, Node, Pullback } from "./node.ts";
import { bind, input, ops, part } from "./ops.ts";
import { isView } from "./plan/view.ts";
import { evaluate, nodeOf, results, traced } from "./trace.ts";
import * as tree from "./tree.ts";

/** A graph that stands alone, and the nodes from outside that its last inputs stand for. */
export interface Closed {
  /** The graph: the given inputs, then one for each constant. */
  readonly body: Graph;
  /** What it uses from outside. */
  readonly constants: readonly Node[];
}

/**
 * Cuts a graph off from what does not depend on its inputs. Numbers stay inside, where they are folded, and so do views:
 * the gradient of what is viewed is smaller than that of an expanded view.
 */
export function close(
  inputs: readonly Node[],
  outputs: readonly Node[],
): Closed {
  const inside = new Set<Node>(inputs);
  const order = toposort(outputs, inputs);
  for (const node of order) {
    if (node.inputs.some((x) => inside.has(x))) inside.add(node);
  }
  const constants = new Map<Node, Node>();
  const use = (node: Node): void => {
    if (inside.has(node) || constants.has(node)) return;
    if (isView(node) && node.op !== "after") use(node.inputs[0]!);
    else if (node.op === "input" || ops[node.op].kind !== "leaf") {
      constants.set(node, input(node));
    }
  };
  outputs.forEach(use);
  for (const node of order) if (inside.has(node)) node.inputs.forEach(use);
  return {
    body: {
      inputs: [...inputs, ...constants.values()],
      outputs: substitute(outputs, constants),
    },
    constants: [...constants.keys()],
  };
}

/** A graph that uses nothing from outside: what does not depend on its inputs is computed in it as well. */
function alone(inputs: readonly Node[], outputs: readonly Node[]): Closed {
  const given = new Set(inputs);
  const isOutside = ({ op }: Node) => op === "input";
  invariant(
    !toposort(outputs, given).some(isOutside),
    "a fused function closes over nothing",
  );
  return { body: { inputs, outputs }, constants: [] };
}

/** Calls `f` in a trace of its own: what stands for an operand must not leave it. */
export function inside<R>(f: () => R): R {
  return withTrace(f, currentTrace());
}

/** What a call was made with. */
export interface Called<A, R> {
  /** The function as a graph. */
  readonly body: Graph;
  /** Trees of the arguments and of the result, for their structure. */
  readonly args: A;
  /** The result in the graph. */
  readonly out: R;
}

/** Calls `f` as a sub-graph that is differentiated in a way of its own, and that a backend may have a kernel for. */
export function call<A extends readonly tree.Tree[], R extends tree.Tree>(
  f: (...args: A) => R,
  args: A,
  pullback: (called: Called<A, R>) => Pullback,
  fused?: FusedSpec,
): R {
  return evaluate(() => {
    const operands = tree.leaves(args).map(({ leaf }) => nodeOf(leaf));
    const inputs = operands.map(input);
    const { inner, out, outputs } = inside(() => {
      const inner = tree.fromLeaves(args, inputs.map(traced));
      const out = f(...inner);
      const outputs = results(out).map(nodeOf);
      return { inner, out, outputs };
    });
    const { body, constants } = fused
      ? alone(inputs, outputs)
      : close(inputs, outputs);
    const rule = pullback({ body, args: inner, out });
    const tuple = bind("call", [...operands, ...constants], {
      body,
      pullback: rule,
      ...fused && { fused },
    });
    const parts = outputs.map((type, i) => traced(part(tuple, i, type)));
    return tree.fromLeaves(out, parts);
  });
}
