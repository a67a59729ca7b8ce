/**
 * Primitives applied to samples.
 *
 * @module
 */

import { type Tensor, tensor } from "cotan";
import { recompute } from "../../core/checkpoint.ts";
import { backward } from "../../core/grad.ts";
import type { OpName, Params } from "../../core/node.ts";
import { bind, input, ops, part } from "../../core/ops.ts";
import { apply, evaluate, nodeOf, traced } from "../../core/trace.ts";
import type { Sample } from "./samples.ts";
import type { Value } from "./values.ts";

/** The names of all primitives. */
export const opNames = Object.keys(ops) as OpName[];

/** A host tensor on the current backend. */
export function upload({ shape, dtype, data }: Value): Tensor {
  return tensor([...data], { shape, dtype });
}

/** The result of a primitive, on the current backend. */
export function applyOp(
  op: OpName,
  inputs: readonly Tensor[],
  params: unknown,
): Tensor {
  // An input has no rule: its program returns it.
  if (op === "input") return evaluate(() => inputs[0]!);
  // A tuple has no tensor: its first part is taken, and a part is that of a call.
  if (op === "call" || op === "scan") {
    return evaluate(() => {
      const nodes = inputs.map(nodeOf);
      const tuple = bind(op, nodes, params as Params["scan"]);
      return traced(part(tuple, 0, tuple));
    });
  }
  if (op === "part") {
    const { index, ...type } = params as Params["part"];
    return evaluate(() => {
      const nodes = inputs.map(input);
      const body = { inputs: nodes, outputs: nodes };
      const pullback = recompute(body);
      const tuple = bind("call", inputs.map(nodeOf), { body, pullback });
      return traced(part(tuple, index, type));
    });
  }
  return apply(op, inputs, params as Params[OpName]);
}

/** Cotangents of the f32 operands of a primitive. */
export function pullback(
  op: OpName,
  inputs: readonly Tensor[],
  { params }: Sample,
  ct: Tensor,
): Tensor[] {
  return evaluate(() => {
    const primals = inputs.map((x) => apply("alias", [x], {}));
    const out = applyOp(op, primals, params);
    const wrt = primals.filter(({ dtype }) => dtype === "f32");
    return backward([nodeOf(out)], [nodeOf(ct)], wrt.map(nodeOf)).map(traced);
  });
}
