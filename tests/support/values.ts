/**
 * Arbitrary shapes and host tensors.
 *
 * @module
 */

import fc from "fast-check";
import type { DType, Shape } from "cotan";
import { isHalf, rounded } from "../../core/half.ts";
import { threefry2x32 } from "../../core/threefry.ts";

/** A tensor on the host. */
export interface Value {
  readonly shape: Shape;
  readonly dtype: DType;
  readonly data: readonly number[];
}

/** An element from a number in [0, 1). */
export type Element = (u: number) => number;

/** Number of elements. */
export function sizeOf(shape: Shape): number {
  return shape.reduce((size, d) => size * d, 1);
}

/** A size of an axis: 0 and 1 among them, and some that no vector length divides. */
export const sizes: fc.Arbitrary<number> = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: 1, max: 5 }) },
  { weight: 1, arbitrary: fc.constantFrom(7, 9, 17) },
  { weight: 1, arbitrary: fc.constant(0) },
);

/** Shapes of a few axes and at most 600 elements. */
export function shapes(min = 0, max = 4): fc.Arbitrary<number[]> {
  return fc.array(sizes, { minLength: min, maxLength: max })
    .filter((shape) => sizeOf(shape) <= 600);
}

/** Seeds of elements; shrinking them gains nothing. */
export const seeds: fc.Arbitrary<number> = fc.noShrink(
  fc.integer({ min: 0, max: 2 ** 31 - 1 }),
);

/** A tensor whose elements follow from a seed. */
export function fill(
  shape: Shape,
  dtype: DType,
  seed: number,
  element: Element = elements[dtype],
): Value {
  const round = dtype === "f32"
    ? Math.fround
    : isHalf(dtype)
    ? (x: number) => rounded(x, dtype)
    : (x: number) => x;
  const data = Array.from(
    { length: sizeOf(shape) },
    (_, i) =>
      round(element(threefry2x32([seed, shape.length], [i, 0])[0] / 2 ** 32)),
  );
  const value = { shape, dtype, data };
  // Counterexamples of fast-check are printed without the elements.
  const toString = () => `${dtype}[${shape.join(", ")}] of seed ${seed}`;
  Object.defineProperty(value, fc.toStringMethod, { value: toString });
  return value;
}

/** Numbers in [low, high). */
export function between(low: number, high: number): Element {
  return (u) => low + u * (high - low);
}

/** Numbers in ±[low, high). */
export function awayFromZero(low: number, high: number): Element {
  return (u) => (u < 0.5 ? -1 : 1) * between(low, high)(u * 2 % 1);
}

/** One of a list, in a share of the cases; else the other. */
function oftenOneOf(
  share: number,
  list: readonly number[],
  rest: Element,
): Element {
  return (u) =>
    u < share
      ? list[Math.floor(u / share * list.length)]!
      : rest((u - share) / (1 - share));
}

/** Elements of each dtype: small ones, and for integers the ends of the range. */
export const elements: { readonly [D in DType]: Element } = {
  f32: between(-3, 3),
  f16: between(-3, 3),
  bf16: between(-3, 3),
  i32: oftenOneOf(
    0.2,
    [-(2 ** 31), 2 ** 31 - 1, 0],
    (u) => Math.floor(u * 19) - 9,
  ),
  u32: oftenOneOf(0.2, [2 ** 32 - 1, 2 ** 31, 0], (u) => Math.floor(u * 19)),
  bool: (u) => u < 0.5 ? 1 : 0,
};

/** Numbers of which no two are closer than 0.1 within 60 neighbours, so that the order is clear. */
export function distinct(shape: Shape, seed: number): Value {
  const noise = fill(shape, "f32", seed, between(0, 1)).data;
  const order = noise.map((_, i) => i).sort((i, j) => noise[i]! - noise[j]!);
  const data = new Array<number>(order.length);
  order.forEach((at, rank) => data[at] = Math.fround(rank * 0.1 - 3));
  return { shape, dtype: "f32", data };
}
