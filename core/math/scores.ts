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
import { isHalf } from "../half.ts";
import type { Graph, Node, Params, Pullback } from "../node.ts";
import { bind, part } from "../ops.ts";
import { format, sizeOf } from "../shape.ts";
import { stateOf, type Tensor } from "../tensor.ts";
import { evaluate, nodeOf, traced } from "../trace.ts";
import { ones } from "./create.ts";
import { add, cast, eq, mul, where } from "./elementwise.ts";
import { transpose, unsqueeze } from "./movement.ts";
import { matmul } from "./products.ts";
import { logSumExp, softmax, sum } from "./reduce.ts";

/** What scores are products of. */
export interface Factors {
  /** f32 [N, D]. */
  readonly x: Tensor;
  /** [V, D], f32 or halves. */
  readonly table: Tensor;
  /** What is added to the scores, f32 [V]; null for nothing. */
  readonly bias: Tensor | null;
}

/**
 * The factors of scores f32 [..., V], where these are seen to be `x · tableᵀ + bias` reshaped: inside a transformation, on
 * a backend whose `scoresLogSumExp` does without the scores. Else null.
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
  const V = scores.shape.at(-1)!;
  const sum = unshaped(nodeOf(scores), V);
  const bias = sum.op === "add" ? vectorOf(sum.inputs[1]!, V) : null;
  const product = bias ? unshaped(sum.inputs[0]!, V) : sum;
  const { op, shape, inputs } = product;
  if (op !== "matmul" || shape.length !== 2 || shape[1] !== V) return null;
  const [x, right] = inputs as [Node, Node];
  return {
    x: traced(x),
    table: traced(turned(right)),
    bias: bias && traced(bias),
  };
}

/** What a node reshapes without a change of its last axis. */
function unshaped(node: Node, last: number): Node {
  return node.op === "reshape" && node.shape.at(-1) === last
    ? unshaped(node.inputs[0]!, last)
    : node;
}

/** The vector that a node repeats along other axes than its last; null where it does not. */
function vectorOf(node: Node, size: number): Node | null {
  const inner = node.op === "expand" ? node.inputs[0]! : node;
  const vector = unshaped(inner, size);
  return vector.shape.join() === `${size}` ? vector : null;
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
 * `logSumExp(x · tableᵀ + bias)` over the rows of the table: x is f32 [N, D], the table f32 or halves [V, D], the bias f32
 * [V] or none, the result [N].
 *
 * Where the backend has a kernel for it, neither the value nor a gradient stores the [N, V] scores. Where only a weighted
 * sum is wanted, `scoresTotal` has the gradient of the table for less.
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
export function scoresLogSumExp(
  x: Tensor,
  table: Tensor,
  bias: Tensor | null = null,
): Tensor {
  checkFactors("scoresLogSumExp", { x, table, bias });
  return evaluate(() => {
    if (!isKernel(x, table)) return logSumOf(x, table, bias);
    const weight = ones(x.shape.slice(0, 1));
    return headLoss("logSum", x, table, weight, bias).logSum;
  });
}

/**
 * The sum of `scoresLogSumExp(x, table, bias)`, each times its weight, f32 [N]: a scalar. One of weight 0 counts for nothing, be
 * it infinite.
 *
 * As weights are known before, the kernel makes the gradients along with the value.
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { scoresTotal, tensor, zeros } from "cotan";
 *
 * const total = scoresTotal(zeros([2, 1]), zeros([8, 1]), tensor([1, 2]));
 * assertAlmostEquals(await total.item(), 3 * Math.log(8), 1e-5);
 * ```
 */
export function scoresTotal(
  x: Tensor,
  table: Tensor,
  weight: Tensor,
  bias: Tensor | null = null,
): Tensor {
  checkFactors("scoresTotal", { x, table, bias });
  const [N] = x.shape;
  if (weight.dtype !== "f32" || weight.shape.join() !== `${N}`) {
    throw new ShapeError(
      `Cannot take scoresTotal of ${format(x)} with weights ${
        format(weight)
      }: they must be f32[${N}]`,
    );
  }
  return evaluate(() =>
    isKernel(x, table)
      ? headLoss("total", x, table, weight, bias).total
      : totalOf(logSumOf(x, table, bias), weight)
  );
}

/** What the kernel gives; gradients are those of the total. */
type Results = {
  readonly total: Tensor;
  readonly logSum: Tensor;
  readonly ofX: Tensor;
  readonly ofTable: Tensor;
  readonly ofBias: Tensor;
};

type Operands = [x: Tensor, table: Tensor, weight: Tensor, bias?: Tensor];

/** The kernel, of which one result is differentiated; weights of the other are 1. */
function headLoss(
  name: "total" | "logSum",
  x: Tensor,
  table: Tensor,
  weight: Tensor,
  bias: Tensor | null = null,
): Results {
  const own = name === "total" ? 0 : 1;
  const pullback = ({ body }: { body: Graph }): Pullback => (...flow) => {
    const [cts, out, needed] = flow;
    const isOwn = cts.every((ct, i) => !ct || i === own);
    if (!isOwn || needed[2]) return recompute(body)(...flow);
    const ct = traced(cts[own]!);
    const [x, table, , bias] = out.inputs.map(traced) as Operands;
    const result = (i: number) => traced(part(out, i, body.outputs[i]!));
    // Not before the cotangents are known the table can have its own.
    const later = name === "total"
      ? { ofTable: mul(ct, result(3)), ofBias: mul(ct, result(4)) }
      : headLoss("total", x, table, ct, bias);
    const ofX = mul(name === "total" ? ct : unsqueeze(ct, 1), result(2));
    return [
      needed[0] ? nodeOf(ofX) : null,
      needed[1] && table.dtype === "f32" ? nodeOf(later.ofTable) : null,
      null,
      ...bias ? [needed[3] ? nodeOf(later.ofBias) : null] : [],
    ];
  };
  const operands = [x, table, weight, ...bias ? [bias] : []];
  return call(definition, operands, pullback, { kind: "headLoss" });
}

function definition(...operands: Tensor[]): Results {
  const [x, table, weight, bias] = operands as Operands;
  const scores = scoresOf(x, table, bias);
  const logSum = logSumExp(scores, { axis: -1 });
  const shares = mul(softmax(scores), unsqueeze(weight, 1));
  return {
    total: totalOf(logSum, weight),
    logSum,
    ofX: matmul(shares, cast(table, "f32")),
    ofTable: matmul(transpose(shares), x),
    ofBias: sum(shares, { axis: 0 }),
  };
}

function totalOf(logSum: Tensor, weight: Tensor): Tensor {
  return sum(where(eq(weight, 0), 0, mul(weight, logSum)));
}

function logSumOf(x: Tensor, table: Tensor, bias: Tensor | null): Tensor {
  return logSumExp(scoresOf(x, table, bias), { axis: -1 });
}

function scoresOf(x: Tensor, table: Tensor, bias?: Tensor | null): Tensor {
  const scores = matmul(x, transpose(cast(table, "f32")));
  return bias ? add(scores, bias) : scores;
}

function checkFactors(name: string, { x, table, bias }: Factors): void {
  const isMatrix = [x, table].every(({ shape }) => shape.length === 2);
  const both = `${format(x)} and ${format(table)}`;
  if (!isMatrix || x.shape[1] !== table.shape[1]) {
    throw new ShapeError(
      `Cannot take ${name} of ${both}: they must be [N, D] and [V, D]`,
    );
  }
  if (x.dtype !== "f32" || table.dtype !== "f32" && !isHalf(table.dtype)) {
    throw new DTypeError(
      `Cannot take ${name} of ${both}: x is f32, the table f32 or halves`,
    );
  }
  const [V] = table.shape;
  if (bias && format(bias) !== `f32[${V}]`) {
    throw new ShapeError(
      `Cannot take ${name} of ${both} with bias ${
        format(bias)
      }: it must be f32[${V}]`,
    );
  }
}

/** Whether the kernel is called: it takes no empty operands. */
function isKernel(x: Tensor, table: Tensor): boolean {
  return isFused() && sizeOf(x.shape) > 0 && sizeOf(table.shape) > 0;
}

/** Whether the backend has the kernel, and computes as wide as it does. */
function isFused(): boolean {
  return !!currentRuntime().backend.limits.fused?.has("headLoss");
}
