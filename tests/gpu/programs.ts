/**
 * Small programs for the tests of the backend.
 *
 * @module
 */

import type { Backend, Executable } from "../../core/backend.ts";
import type { DType } from "../../core/dtype.ts";
import type { Expr, Place, Plan, Step } from "../../core/plan/kernel.ts";
import { call, fill, load, noGraph } from "./run.ts";

export const line = { offset: 0, strides: [1] };

/** The step `to = expr` over a line of points. */
export function step(
  size: number,
  expr: Expr,
  buffers: readonly Place[],
  dtypes: readonly DType[] = buffers.map(() => "f32"),
): Step {
  return {
    kernel: {
      kind: "map",
      shape: [size],
      outputs: [{ buffer: buffers.length - 1, view: line, expr }],
    },
    buffers,
    dtypes,
  };
}

export function compile(
  backend: Backend,
  inputs: number,
  plan: Partial<Plan>,
): Executable {
  const whole: Plan = {
    inputs,
    outputs: [],
    freed: [],
    pages: [],
    loops: [],
    steps: [],
    ...plan,
  };
  return backend.compile(noGraph, new Array(inputs).fill(false), () => whole);
}

/** y = x + 1 into a new storage, on a line of points. */
export function increment(backend: Backend, size: number): Executable {
  return compile(backend, 1, {
    outputs: [{ kind: "new", size, dtype: "f32" }],
    steps: [
      step(size, call("add", [load(0, [1]), fill(1)]), [
        { kind: "input", index: 0 },
        { kind: "output", index: 0 },
      ]),
    ],
  });
}
