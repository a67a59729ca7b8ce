/**
 * Walks over the nodes of a graph.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Node } from "./node.ts";

/** Every node that the roots depend on, operands first. */
export function toposort(roots: readonly Node[]): Node[] {
  const order: Node[] = [];
  const seen = new Set<Node>();
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
