/**
 * The sum of the logarithms of examples, each times its weight.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Expr, Strided } from "../plan/kernel.ts";
import { emitReduce } from "./reduce.ts";
import type { StageBuilder } from "./stages.ts";

/** Adds its stages. What an example of no weight has counts for nothing, be it infinite. */
export function emitTotal(
  stages: StageBuilder,
  from: { readonly logSum: Strided; readonly weight: Strided },
  total: Strided,
): void {
  const dtype = "f32";
  const weight: Expr = { kind: "load", ...from.weight };
  const none: Expr = { kind: "const", value: 0, dtype };
  const isNone: Expr = {
    kind: "call",
    op: "eq",
    args: [weight, none],
    dtype: "bool",
  };
  const product: Expr = {
    kind: "call",
    op: "mul",
    args: [weight, { kind: "load", ...from.logSum }],
    dtype,
  };
  const body: Expr = {
    kind: "call",
    op: "select",
    args: [isNone, none, product],
    dtype,
  };
  emitReduce(stages, {
    kind: "reduce",
    shape: [],
    over: from.weight.shape,
    passes: [{ reductions: [{ combine: "sum", body }], outputs: [] }],
    outputs: [{ ...total, expr: { kind: "acc", index: 0, dtype } }],
  });
}
