/**
 * Batching of graphs: nodes become nodes with a batch axis in front.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { invariant } from "./errors.ts";
import { takesBatches } from "./fused_spec.ts";
import { toposort } from "./graph.ts";
import type { Call, Node, Op, Pullback, ScanParams } from "./node.ts";
import { bind, input, ops } from "./ops.ts";

/**
 * What becomes of nodes where each of those in `batched` has a batch axis of `size` in front; adds what lies between.
 *
 * What does not depend on them is shared by all examples and stays as it is.
 */
export function batchNodes(
  outputs: readonly Node[],
  batched: Map<Node, Node>,
  size: number,
): Node[] {
  for (const node of toposort(outputs)) {
    if (!node.inputs.some((x) => batched.has(x))) continue;
    const inputs = node.inputs.map((x) => batched.get(x) ?? repeat(x, size));
    batched.set(node, bind(node.op, inputs, batchParams(node, size) as never));
  }
  return outputs.map((node) => batched.get(node) ?? repeat(node, size));
}

function batchParams(node: Node, size: number): unknown {
  const { kind, batch } = ops[node.op] as Op<unknown>;
  if (batch) return batch(node.params, size);
  invariant(kind === "tuple", `${node.op} has operands and no batch rule`);
  const params = node.params as Call;
  const inputs = params.body.inputs.map(({ shape, dtype }) =>
    input({ shape: [size, ...shape], dtype })
  );
  const batched = new Map(params.body.inputs.map((x, i) => [x, inputs[i]!]));
  const body = {
    inputs,
    outputs: batchNodes(params.body.outputs, batched, size),
  };
  // The gradient of a loop is found from its parameters.
  if (node.op === "scan") {
    return { ...params, body, axis: (params as ScanParams).axis + 1 };
  }
  const { fused, ...call } = params;
  const pullback = batchPullback(node, size);
  return {
    ...call,
    body,
    pullback,
    ...fused && takesBatches[fused.kind] && { fused },
  };
}

/** The pullback of a batch of calls: that of one call, batched. */
function batchPullback({ op, params }: Node, size: number): Pullback {
  return (cts, out, needed) => {
    const batched = new Map<Node, Node>();
    const example = (node: Node): Node => {
      const { shape, dtype } = node;
      const one = input({ shape: shape.slice(1), dtype });
      batched.set(one, node);
      return one;
    };
    const call = bind(op, out.inputs.map(example), params as never);
    const given = cts.map((ct) => ct && example(ct));
    const flowing = (params as Call).pullback(given, call, needed);
    return flowing.map((ct) => ct && batchNodes([ct], batched, size)[0]!);
  };
}

/** The same value for each example. */
function repeat(node: Node, size: number): Node {
  const { shape } = node;
  const one = bind("reshape", [node], { shape: [1, ...shape] });
  return bind("expand", [one], { shape: [size, ...shape] });
}
