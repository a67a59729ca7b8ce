/**
 * Heads for the tests of scores, and what their kernels are defined by.
 *
 * @module
 */

import { type DType, grad, scoresTotal, type Tensor } from "cotan";
import { upload } from "../support/primitives.ts";
import { between, fill } from "../support/values.ts";

/** A head of some sizes: examples, a table, and a cotangent for each example. */
export type Head = {
  readonly x: Tensor;
  readonly table: Tensor;
  readonly ct: Tensor;
  readonly bias?: Tensor;
};

export type Sizes = readonly [N: number, D: number, V: number];

export function headOf(
  [N, D, V]: Sizes,
  dtype: DType = "f32",
  isBiased = false,
): Head {
  const part = (shape: number[], seed: number) =>
    upload(fill(shape, "f32", seed, between(-2, 2)));
  return {
    x: part([N, D], 1),
    table: part([V, D], 2).cast(dtype),
    ct: part([N], 3),
    ...isBiased && { bias: part([V], 4) },
  };
}

/** The definition, with the scores. */
export function plain(x: Tensor, table: Tensor, bias?: Tensor | null): Tensor {
  const scores = x.matmul(table.cast("f32").transpose());
  return (bias ? scores.add(bias) : scores).logSumExp({ axis: -1 });
}

export type LogSumExp = (
  x: Tensor,
  table: Tensor,
  bias?: Tensor | null,
) => Tensor;

/** The value and gradients, and those of sums whose weights are known before. */
export function all(f: LogSumExp, { x, table, ct, bias }: Head): Tensor[] {
  const loss: LogSumExp = (...head) => f(...head).mul(ct).sum();
  const total: LogSumExp = (x, table, bias) =>
    f === plain ? loss(x, table, bias) : scoresTotal(x, table, ct, bias);
  return [
    f(x, table, bias),
    ...slopesOf(loss, x, table, bias),
    ...slopesOf(total, x, table, bias),
  ];
}

/** A value, its gradients of x and of the bias alone, and those of all. */
function slopesOf(
  loss: LogSumExp,
  x: Tensor,
  table: Tensor,
  bias?: Tensor,
): Tensor[] {
  const trained = {
    x,
    ...table.dtype === "f32" && { table },
    ...bias && { bias },
  };
  const slopes = grad((p: typeof trained) => {
    return loss(p.x, p.table ?? table, p.bias);
  })(trained);
  return [
    loss(x, table, bias),
    grad((x: Tensor) => loss(x, table, bias))(x),
    ...bias ? [grad((b: Tensor) => loss(x, table, b))(bias)] : [],
    ...Object.values(slopes),
  ];
}
