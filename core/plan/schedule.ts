/**
 * The order of kernels: each comes when an output asks for it. Where values are computed again to save memory, it comes
 * before that if it takes no more room than it frees.
 *
 * So the gradient of a weight is computed where the backward pass comes by, not at the end, and what has been computed
 * again for it is not kept until then.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { toposort } from "../graph.ts";
import type { Graph, Node } from "../node.ts";
import { sizeOf } from "../shape.ts";

/** Which roots a node waits for, and which of them it reads. */
interface Needs {
  readonly waits: ReadonlySet<Node>;
  readonly reads: ReadonlySet<Node>;
}

/** The nodes that are computed into buffers, in the order in which they are to be. */
export function schedule(graph: Graph, roots: ReadonlySet<Node>): Node[] {
  const order = toposort(graph.outputs);
  if (!order.some(({ op }) => op === "after")) {
    return order.filter((node) => roots.has(node));
  }
  const needs = needsOf(order, roots);
  const readers = invert(needs, "reads"), waiters = invert(needs, "waits");
  const outputs = new Set(graph.outputs);
  const done = new Set<Node>();
  const left = new Map(
    [...needs].map(([root, { waits }]) => [root, waits.size]),
  );
  const pending = (value: Node): Node[] =>
    readers.get(value)!.filter((user) => !done.has(user));
  const room = (values: readonly Node[]): number =>
    values.reduce(
      (sum, x) => outputs.has(x) ? sum : sum + sizeOf(x.shape),
      0,
    );
  /** The last users of a value, where they can come now and free as much room as they take. */
  const lastUsers = (value: Node): Node[] => {
    const users = pending(value);
    if (users.some((user) => left.get(user)! > 0)) return [];
    const together = new Set(users);
    const read = new Set(users.flatMap((user) => [...needs.get(user)!.reads]));
    const freed = [...read].filter((x) =>
      pending(x).every((user) => together.has(user))
    );
    return room(users) <= room(freed) ? users : [];
  };
  for (const root of needs.keys()) {
    const queue = [root];
    for (const next of queue) {
      if (done.has(next)) continue;
      done.add(next);
      const values = new Set(needs.get(next)!.reads);
      for (const user of waiters.get(next) ?? []) {
        left.set(user, left.get(user)! - 1);
        if (left.get(user)! > 0) continue;
        for (const value of needs.get(user)!.reads) values.add(value);
      }
      for (const value of values) queue.push(...lastUsers(value));
    }
  }
  return [...done];
}

/** What each root needs, in their order; nodes in between are computed inside the kernels that use them. */
function needsOf(
  order: readonly Node[],
  roots: ReadonlySet<Node>,
): Map<Node, Needs> {
  const needs = new Map<Node, Needs>();
  const between = new Map<Node, Needs>();
  for (const node of order) {
    const waits = new Set<Node>(), reads = new Set<Node>();
    node.inputs.forEach((x, i) => {
      const below = roots.has(x) ? { waits: [x], reads: [x] } : between.get(x)!;
      for (const root of below.waits) waits.add(root);
      // The second operand of `after` is an order only.
      if (node.op === "after" && i === 1) return;
      for (const root of below.reads) reads.add(root);
    });
    (roots.has(node) ? needs : between).set(node, { waits, reads });
  }
  return needs;
}

function invert(
  needs: ReadonlyMap<Node, Needs>,
  by: keyof Needs,
): Map<Node, Node[]> {
  const users = new Map<Node, Node[]>();
  for (const [user, need] of needs) {
    for (const root of need[by]) {
      const list = users.get(root);
      if (list) list.push(user);
      else users.set(root, [user]);
    }
  }
  return users;
}
