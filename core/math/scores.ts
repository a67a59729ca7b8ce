/**
 * Scores `x · tableᵀ` of examples for each row of a table, as the head of a language model gives them, and the logarithm
 * of the sum of their exponentials without them.
 *
 * Letters: N examples, V rows of the table, D their size.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { call } from "../call.ts";
import { recompute } from "../checkpoint.ts";
import { currentRuntime, currentTrace } from "../context.ts";
import { DTypeError, ShapeError } from "../errors.ts";
import { fused } from "../fused.ts";
import { isHalf } from "../half.ts";
import type { Node, Params, Pullback } from "../node.ts";
import { bind, part } from "../ops.ts";
import { format, type Shape, sizeOf } from "../shape.ts";
import { stateOf, type Tensor } from "../tensor.ts";
import { evaluate, nodeOf, traced } from "../trace.ts";
import { cast, exp, mul, sub } from "./elementwise.ts";
import { transpose, unsqueeze } from "./movement.ts";
import { matmul } from "./products.ts";
import { logSumExp, softmax } from "./reduce.ts";

/** What scores are products of. */
export interface Factors {
  /** f32 [N, D]. */
  readonly x: Tensor;
  /** [V, D], f32 or halves. */
  readonly table: Tensor;
}

/**
 * The factors of scores f32 [..., V], where these are seen to be `x · tableᵀ` reshaped: inside a transformation, on a
 * backend whose `scoresLogSumExp` does without the scores. Else null.
 *
 * A loss that takes the factors instead leaves the scores unused, and what is unused is never computed.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { factorsOf, init, jit, type Tensor, tensor } from "cotan";
 *
 * using _ = await init({ backend: "wasm" });
 * const sizes = jit((x: Tensor, table: Tensor) => {
 *   const factors = factorsOf(x.matmul(table.transpose()).reshape([1, 1, 3]));
 *   return factors!.table.sum({ axis: 0 });
 * });
 * assertEquals(await sizes(tensor([[1, 2]]), tensor([[1, 2], [3, 4], [5, 6]])).toArray(), [9, 12]);
 * ```
 */
export function factorsOf(scores: Tensor): Factors | null {
  const isTraced = currentTrace() && stateOf(scores).kind === "traced";
  if (!isTraced || !isFused()) return null;
  const V = scores.shape.at(-1);
  let node = nodeOf(scores);
  while (node.op === "reshape" && node.shape.at(-1) === V) {
    node = node.inputs[0]!;
  }
  const { shape } = node;
  if (node.op !== "matmul" || shape.length !== 2 || shape[1] !== V) return null;
  const [x, right] = node.inputs as [Node, Node];
  return { x: traced(x), table: traced(turned(right)) };
}

/** A matrix transposed, of halves if it is one widened. */
function turned(node: Node): Node {
  const [inner] = node.inputs;
  if (node.op === "cast" && isHalf(inner!.dtype)) return turned(inner!);
  if (node.op !== "transpose") {
    return bind("transpose", [node], { perm: [1, 0] });
  }
  const { perm } = node.params as Params["transpose"];
  if (perm[0] === 0) return bind("transpose", [node], { perm: [1, 0] });
  return inner!.op === "cast" && isHalf(inner!.inputs[0]!.dtype)
    ? inner!.inputs[0]!
    : inner!;
}

/**
 * `logSumExp(x · tableᵀ)` over the rows of the table: x is f32 [N, D], the table f32 or halves [V, D], the result [N].
 *
 * Where the backend has kernels for it, neither the value nor the gradient of x, the row that softmax expects, stores the
 * [N, V] scores. For the gradient of the table they are computed again if they are larger than the two, and else stored.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { scoresLogSumExp, tensor, zeros } from "cotan";
 *
 * const sums = scoresLogSumExp(tensor([[1, 2]]), zeros([8, 2]));
 * assertAlmostEquals((await sums.data())[0]!, Math.log(8), 1e-6);
 * ```
 */
export function scoresLogSumExp(x: Tensor, table: Tensor): Tensor {
  const isMatrix = [x, table].every(({ shape }) => shape.length === 2);
  const both = `${format(x)} and ${format(table)}`;
  if (!isMatrix || x.shape[1] !== table.shape[1]) {
    throw new ShapeError(
      `Cannot take scoresLogSumExp of ${both}: they must be [N, D] and [V, D]`,
    );
  }
  if (x.dtype !== "f32" || table.dtype !== "f32" && !isHalf(table.dtype)) {
    throw new DTypeError(
      `Cannot take scoresLogSumExp of ${both}: x is f32, the table f32 or halves`,
    );
  }
  return evaluate(() => {
    if (!isFused() || sizeOf(x.shape) === 0 || sizeOf(table.shape) === 0) {
      return logSumExp(scoresOf(x, table), { axis: -1 });
    }
    const definition = (x: Tensor, table: Tensor) => {
      const scores = scoresOf(x, table);
      const logSum = logSumExp(scores, { axis: -1 });
      const weights = softmax(scores);
      const expected = matmul(weights, cast(table, "f32"));
      return { logSum, expected, weights };
    };
    const pullback = ({ body }: { body: Params["call"]["body"] }): Pullback =>
      pullBack(recompute(body));
    const spec = { kind: "headLoss" } as const;
    return call(definition, [x, table], pullback, spec).logSum;
  });
}

/** The pullback of the sums; what flows to the expected row, in gradients of gradients, is for `otherwise`. */
function pullBack(otherwise: Pullback): Pullback {
  return (cts, out, needed) => {
    if (cts[1] || cts[2]) return otherwise(cts, out, needed);
    const [x, table] = out.inputs as [Node, Node];
    const ct = traced(cts[0]!);
    const result = (index: number, shape: Shape) =>
      traced(part(out, index, { shape, dtype: "f32" }));
    const ofTable = (): Tensor => {
      const [N, D] = x.shape as [number, number], V = table.shape[0]!;
      if (N > 2 * D) {
        const logSum = result(0, [N]);
        return tableGradient(traced(x), traced(table), logSum, ct);
      }
      // No larger than the table and this, scores are stored: one product less.
      const scaled = mul(traced(x), unsqueeze(ct, 1));
      return matmul(transpose(result(2, [N, V])), scaled);
    };
    return [
      needed[0] ? nodeOf(mul(unsqueeze(ct, 1), result(1, x.shape))) : null,
      needed[1] && table.dtype === "f32" ? nodeOf(ofTable()) : null,
    ];
  };
}

/** The cotangent of the table from that of the sums. */
function tableGradient(...operands: Tensor[]): Tensor {
  const definition = (...[x, table, logSum, ct]: Tensor[]): Tensor => {
    const weights = exp(sub(scoresOf(x!, table!), unsqueeze(logSum!, 1)));
    return matmul(transpose(mul(weights, unsqueeze(ct!, 1))), x!);
  };
  return fused({ kind: "headGradient" }, definition)(...operands);
}

function scoresOf(x: Tensor, table: Tensor): Tensor {
  return matmul(x, transpose(cast(table, "f32")));
}

/** Whether the backend has kernels for it, and computes as wide as these do. */
function isFused(): boolean {
  const { fused } = currentRuntime().backend.limits;
  return !!fused?.has("headLoss") && fused.has("headGradient");
}
