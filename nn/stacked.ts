/**
 * Adapters in a stack, of which each row of a batch has one of its own: one program serves them all.
 *
 * Letters: B batch, T time, R rank, N adapters of the stack, V vocabulary; `in` and `out` are the features of the layer.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { format, ShapeError, type Tensor, TreeError } from "../core/mod.ts";
import type { Lora } from "./adapter_forms.ts";

/** `x aᵀ` for x [B, ..., in] and a stack [N, R, in]: [B, ..., R], from the factor that each row has. */
export function projectByRow(x: Tensor, a: Tensor, rows: Tensor): Tensor {
  checkRows(x, rows);
  return byRow(x, a.take(rows).transpose([0, 2, 1]));
}

/** The same for ids [B, ...] that pick from a table: a is [N, R, V]. */
export function pickByRow(ids: Tensor, a: Tensor, rows: Tensor): Tensor {
  checkRows(ids, rows);
  const [count, R, V] = a.shape as [number, number, number];
  const first = rows.mul(V).reshape([-1, ...ids.shape.slice(1).map(() => 1)]);
  return a.transpose([0, 2, 1]).reshape([count * V, R]).take(ids.add(first));
}

/** What the adapters add to each row, from u = x aᵀ [B, ..., R]. */
export function changeByRow(
  { a, b, scale, rows }: Lora,
  project: () => Tensor,
): Tensor {
  if (!rows) {
    throw new TreeError(
      `Cannot apply a stack of adapters ${
        format(a)
      }: say which of them serves each row, by withRows`,
    );
  }
  const u = project(), up = b.take(rows).transpose([0, 2, 1]);
  const ones = u.shape.slice(1).map(() => 1);
  return byRow(u, up).mul(scale.take(rows).reshape([-1, ...ones]));
}

/** Each row [..., k] of x times its own matrix [k, n]. */
function byRow(x: Tensor, matrices: Tensor): Tensor {
  const [B, k, n] = matrices.shape as [number, number, number];
  const rows = x.reshape([B, -1, k]).matmul(matrices);
  return rows.reshape([...x.shape.slice(0, -1), n]);
}

function checkRows(x: Tensor, rows: Tensor): void {
  if (rows.shape.length === 1 && rows.shape[0] === x.shape[0]) return;
  throw new ShapeError(
    `Cannot apply adapters by rows ${format(rows)} to ${
      format(x)
    }: there must be one number for each of its ${x.shape[0]} rows`,
  );
}
