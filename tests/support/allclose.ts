/**
 * Comparison of tensors under one table of tolerances.
 *
 * @module
 */

import { AssertionError } from "@std/assert";
import type { DType, Tensor } from "cotan";

/** How far an element may be off: `rtol` of the expected value, and `atol`, for values of about 1. */
export interface Tolerance {
  readonly rtol: number;
  readonly atol: number;
}

/** What each dtype is known to on a backend that computes f32 in float32. */
export const tolerances: { readonly [D in DType]: Tolerance } = {
  f32: { rtol: 1e-5, atol: 1e-6 },
  f16: { rtol: 0, atol: 0 },
  bf16: { rtol: 0, atol: 0 },
  i32: { rtol: 0, atol: 0 },
  u32: { rtol: 0, atol: 0 },
  bool: { rtol: 0, atol: 0 },
};

/** What a comparison may be told. */
export interface CloseOptions extends Partial<Tolerance> {
  /** Number of terms that each element is a sum of: the tolerance grows with its root. */
  readonly terms?: number;
  /** Whether 0 and -0 differ. */
  readonly signedZero?: boolean;
  /** What is compared, for the message. */
  readonly what?: string;
}

/** Throws unless the elements of a tensor are close to what is expected; NaN equals NaN. */
export async function assertClose(
  actual: Tensor,
  expected: Tensor | ArrayLike<number>,
  options: CloseOptions = {},
): Promise<void> {
  const isTensor = "dtype" in expected;
  if (isTensor && String(actual) !== String(expected)) {
    throw new AssertionError(
      `${options.what ?? "The tensor"} is ${actual}, expected ${expected}`,
    );
  }
  const want = isTensor ? await expected.data() : expected;
  const { what = "the tensor", ...rest } = options;
  const all = { ...tolerances[actual.dtype], ...rest };
  assertCloseData(await actual.data(), want, `${what}, ${actual},`, all);
}

/** Throws unless each number is close to the expected one. */
export function assertCloseData(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  what: string,
  options: Tolerance & CloseOptions,
): void {
  const { rtol, atol, terms = 1, signedZero = false } = options;
  if (actual.length !== expected.length) {
    throw new AssertionError(
      `${what} has ${actual.length} elements, expected ${expected.length}`,
    );
  }
  const factor = Math.sqrt(Math.max(1, terms));
  let wrong = 0, first = "";
  for (let i = 0; i < expected.length; i++) {
    const a = actual[i]!, e = expected[i]!;
    const bound = factor * (rtol * Math.abs(e) + atol);
    const isClose = Object.is(a, e) ||
      (a === e ? !signedZero : Number.isFinite(e) && Math.abs(a - e) <= bound);
    if (isClose) continue;
    if (wrong++ === 0) first = `[${i}] is ${a}, expected ${e} ± ${bound}`;
  }
  if (wrong > 0) {
    throw new AssertionError(
      `${what} is off in ${wrong} of ${expected.length} elements: ${first}`,
    );
  }
}

/** The norm of the difference relative to that of what is expected, or to 1 where that is smaller. */
export function relativeError(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  floor = 1e-30,
): number {
  let error = 0, size = 0;
  for (let i = 0; i < expected.length; i++) {
    error += (actual[i]! - expected[i]!) ** 2;
    size += expected[i]! ** 2;
  }
  return actual.length === expected.length
    ? Math.sqrt(error) / Math.max(Math.sqrt(size), floor)
    : NaN;
}
