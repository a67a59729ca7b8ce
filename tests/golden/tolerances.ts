/**
 * How far from the golden files results may be, and what their training is like.
 *
 * @module
 */

import { assert } from "@std/assert";

/** What inputs.json holds of training. */
export interface Training {
  readonly adamw: {
    readonly lr: number;
    readonly betas: [number, number];
    readonly eps: number;
    readonly weight_decay: number;
  };
}

/** Largest relative errors. */
export interface Tolerances {
  readonly loss: number;
  readonly states: number;
  readonly grad: number;
  readonly training: number;
}

export const inFloat32: Tolerances = {
  loss: 2e-6,
  states: 1e-5,
  grad: 1e-4,
  training: 1e-4,
};

/** The files hold states and gradients as float32, losses in full. */
export const exact: Tolerances = {
  loss: 1e-9,
  states: 2e-7,
  grad: 2e-7,
  training: 1e-9,
};

/** Asserts that a number is within a relative error of what it should be. */
export function assertRelative(
  actual: number,
  expected: number,
  rtol: number,
  what: string,
): void {
  const error = Math.abs(actual - expected) /
    Math.max(1e-30, Math.abs(expected));
  assert(
    error <= rtol,
    `${what} is ${actual}, expected ${expected}: off by ${error}`,
  );
}
