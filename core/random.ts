/**
 * Random numbers from keys: a key gives the same bits on every backend, and is used once.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { DTypeError, ShapeError } from "./errors.ts";
import {
  add,
  cast,
  cos,
  div,
  log,
  lt,
  maximum,
  minimum,
  mul,
  neg,
  sqrt,
  sub,
} from "./math/elementwise.ts";
import { constant } from "./math/broadcast.ts";
import { tensor, zeros } from "./math/create.ts";
import { reshape, slice } from "./math/movement.ts";
import { argmax } from "./math/reduce.ts";
import { argsort } from "./math/sort.ts";
import { checkShape, format, type Shape, sizeOf } from "./shape.ts";
import type { Tensor } from "./tensor.ts";
import type { TensorLike } from "./tensor_methods.ts";
import { apply, evaluate } from "./trace.ts";

/**
 * A key from a seed, an integer of up to 53 bits: u32[2].
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random } from "cotan";
 *
 * const x = random.normal(random.key(1), [4]);
 * const again = random.normal(random.key(1), [4]);
 * assertEquals(await x.toArray(), await again.toArray());
 * ```
 */
export function key(seed: number): Tensor {
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new RangeError(
      `Cannot make a key from ${seed}: a seed is an integer from 0 to 2^53 - 1`,
    );
  }
  return tensor(Uint32Array.of(Math.floor(seed / 2 ** 32), seed >>> 0));
}

/** Random bits: u32 of a shape. Two streams of one key have nothing in common. */
export function bits(
  key: Tensor,
  shape: Shape,
  options: { readonly stream?: Tensor } = {},
): Tensor {
  checkShape(shape, "draw random numbers of shape");
  return evaluate(() => {
    const stream = options.stream
      ? reshape(options.stream, [])
      : zeros([], { dtype: "u32" });
    return apply("random", [key, stream], { shape: [...shape] });
  });
}

/** `n` independent keys. */
export function split(key: Tensor, n = 2): Tensor[] {
  return evaluate(() => {
    const keys = bits(key, [n, 2]);
    return Array.from(
      { length: n },
      (_, i) => reshape(slice(keys, [[i, i + 1]]), [2]),
    );
  });
}

/** A key for the i-th use of another, such as a step count; `i` may be traced. */
export function foldIn(key: Tensor, i: TensorLike): Tensor {
  return evaluate(() => {
    const count = typeof i === "number"
      ? constant(i, "u32", [])
      : cast(reshape(i, []), "u32");
    // Stream 0 is what `split` and the distributions draw from.
    return bits(key, [2], { stream: add(count, 1) });
  });
}

/** Uniform numbers in [min, max), 0 and 1 by default; multiples of 2^-24 of the range. */
export function uniform(
  key: Tensor,
  shape: Shape,
  options: { readonly min?: number; readonly max?: number } = {},
): Tensor {
  const { min = 0, max = 1 } = options;
  return evaluate(() => {
    const unit = mul(cast(div(bits(key, shape), 256), "f32"), 2 ** -24);
    if (min === 0 && max === 1) return unit;
    // The largest of them may be rounded up to max itself.
    return minimum(add(mul(unit, max - min), min), floatBelow(max));
  });
}

/** The largest float32 below a number. */
function floatBelow(x: number): number {
  const float = Float32Array.of(x);
  const bits = new Int32Array(float.buffer);
  if (float[0]! < x) return float[0]!;
  if (float[0] === 0) return -(2 ** -149);
  bits[0]! += float[0]! > 0 ? -1 : 1;
  return float[0]!;
}

/** Normal numbers of mean 0 and standard deviation 1, by Box and Muller's transform. */
export function normal(key: Tensor, shape: Shape): Tensor {
  return evaluate(() => {
    const u = uniform(key, [2, sizeOf(shape)]);
    const [radius, angle] = [0, 1].map((i) => slice(u, [[i, i + 1]]));
    const r = sqrt(mul(log(sub(1, radius!)), -2));
    return reshape(mul(r, cos(mul(angle!, 2 * Math.PI))), shape);
  });
}

/** True with a probability, a number or a tensor that broadcasts to the shape. */
export function bernoulli(
  key: Tensor,
  probability: TensorLike,
  shape: Shape,
): Tensor {
  return evaluate(() => lt(uniform(key, shape), probability));
}

/** Integers from low up to high, which is left out; i32. */
export function randint(
  key: Tensor,
  shape: Shape,
  options: { readonly low?: number; readonly high: number },
): Tensor {
  const { low = 0, high } = options;
  const range = high - low;
  if (!Number.isInteger(low) || !Number.isInteger(high) || range < 1) {
    throw new RangeError(
      `Cannot draw integers from ${low} up to ${high}: both must be integers, high above low`,
    );
  }
  return evaluate(() => {
    const raw = bits(key, shape);
    const rest = sub(raw, mul(div(raw, range), range));
    return add(cast(rest, "i32"), low);
  });
}

/** Indices drawn from the distribution softmax(logits) along the last axis, i32, by Gumbel's trick. */
export function categorical(key: Tensor, logits: Tensor): Tensor {
  if (logits.shape.length === 0) {
    throw new ShapeError(`Cannot draw from ${format(logits)}: it has no axis`);
  }
  if (logits.dtype !== "f32") {
    throw new DTypeError(
      `Cannot draw from ${format(logits)}: logits are f32; use cast`,
    );
  }
  return evaluate(() => {
    const u = maximum(uniform(key, logits.shape), 2 ** -25);
    return argmax(sub(logits, log(neg(log(u)))));
  });
}

/**
 * The numbers from 0 to n - 1 in random order, i32[n].
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { random } from "cotan";
 *
 * const order = random.permutation(random.key(1), 5);
 * assertEquals(await order.sort().toArray(), [0, 1, 2, 3, 4]);
 * ```
 */
export function permutation(key: Tensor, n: number): Tensor {
  // Of equal bits, one pair in 2^32, the first goes first.
  return evaluate(() => argsort(bits(key, [n])));
}
