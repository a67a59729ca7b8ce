/**
 * What the tests of layers share: the oracle, values, and comparison.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { type Data, init, type Shape, type Tensor, tensor } from "cotan";

/** Makes the reference backend in float64 the current one. */
export async function useOracle(): Promise<void> {
  await init({ backend: "reference", precision: "f64" });
}

/** Values without a pattern, the same for a seed, between -1 and 1. */
export function values(size: number, seed = 1): Float64Array {
  return Float64Array.from(
    { length: size },
    (_, i) => Math.sin(12.9898 * (i + 1) + 78.233 * seed),
  );
}

/** A tensor of such values. */
export function varied(shape: Shape, seed = 1): Tensor {
  const size = shape.reduce((n, d) => n * d, 1);
  return tensor(values(size, seed), { shape });
}

/** Ids as an i32 tensor. */
export function ids(rows: readonly (readonly number[])[]): Tensor {
  const shape = [rows.length, rows[0]!.length];
  return tensor(Int32Array.from(rows.flat()), { shape });
}

/** Asserts a shape and values within an absolute bound. */
export async function assertClose(
  actual: Tensor,
  expected: ArrayLike<number>,
  options: { readonly shape?: Shape; readonly within?: number } = {},
): Promise<void> {
  const { shape, within = 1e-12 } = options;
  if (shape) assertEquals(actual.shape, shape);
  const data: Data = await actual.data();
  assertEquals(data.length, expected.length);
  for (let i = 0; i < data.length; i++) {
    const gap = Math.abs(data[i]! - expected[i]!);
    assert(gap <= within, `element ${i} is ${data[i]}, not ${expected[i]}`);
  }
}
