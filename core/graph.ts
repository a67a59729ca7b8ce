/**
 * Walks over the nodes of a graph, and graphs within others.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Graph, Node } from "./node.ts";

/** Every node that the roots depend on, operands first; those to skip are left out, with what only they depend on. */
export function toposort(
  roots: readonly Node[],
  skip: Iterable<Node> = [],
): Node[] {
  const order: Node[] = [];
  const seen = new Set<Node>(skip);
  // A stack of our own: a deep graph would overflow that of the engine.
  const stack: { node: Node; next: number }[] = [];
  const enter = (node: Node): void => {
    if (seen.has(node)) return;
    seen.add(node);
    stack.push({ node, next: 0 });
  };
  for (const root of roots) {
    enter(root);
    while (stack.length > 0) {
      const top = stack[stack.length - 1]!;
      const operand = top.node.inputs[top.next++];
      if (operand) {
        enter(operand);
      } else {
        order.push(top.node);
        stack.pop();
      }
    }
  }
  return order;
}

/** The roots, with some nodes replaced by others of their types. */
export function substitute(
  roots: readonly Node[],
  replaced: ReadonlyMap<Node, Node>,
): Node[] {
  const done = new Map(replaced);
  for (const node of toposort(roots, replaced.keys())) {
    const inputs = node.inputs.map((x) => done.get(x)!);
    const changed = inputs.some((x, i) => x !== node.inputs[i]);
    done.set(node, changed ? { ...node, inputs } : node);
  }
  return roots.map((root) => done.get(root)!);
}

/** What a graph gives for operands. */
export function splice(body: Graph, operands: readonly Node[]): Node[] {
  return substitute(
    body.outputs,
    new Map(body.inputs.map((x, i) => [x, operands[i]!])),
  );
}

/** How many operands, and roots if given, each node is. */
export function usesOf(
  order: readonly Node[],
  roots: readonly Node[] = [],
): Map<Node, number> {
  const uses = new Map<Node, number>();
  const count = (node: Node) => uses.set(node, (uses.get(node) ?? 0) + 1);
  for (const node of order) node.inputs.forEach(count);
  roots.forEach(count);
  return uses;
}
