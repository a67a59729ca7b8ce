/**
 * Creation of a tensor piece by piece, for data that the host should not hold as a whole.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { currentRuntime } from "../context.ts";
import { checkDType, type Data, toData } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { isHalf } from "../half.ts";
import { checkShape, format, type Shape, sizeOf } from "../shape.ts";
import { Tensor } from "../tensor.ts";
import type { DTypeOptions } from "./create.ts";

/**
 * A tensor of elements that come in pieces, in row-major order: each is copied to the backend before the next is asked
 * for, so a source may fill one buffer again and again, and the host never holds more than that.
 *
 * The dtype is f32 unless `dtype` says another; a Uint16Array is bits of halves. Throws `ShapeError` where the pieces have more or fewer elements than
 * the shape takes. What the source throws comes through; the memory is freed before.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { fromChunks } from "cotan";
 *
 * function* rows() {
 *   const row = new Float32Array(3);
 *   for (let i = 0; i < 2; i++) yield row.fill(i);
 * }
 * const x = await fromChunks(rows(), { shape: [2, 3] });
 * assertEquals(await x.toArray(), [[0, 0, 0], [1, 1, 1]]);
 * ```
 */
export async function fromChunks(
  chunks: Iterable<Data> | AsyncIterable<Data>,
  options: DTypeOptions & { readonly shape: Shape },
): Promise<Tensor> {
  const { shape, dtype = "f32" } = options;
  checkShape(shape, "make a tensor of shape");
  checkDType(dtype);
  const runtime = currentRuntime();
  const { backend } = runtime;
  const size = sizeOf(shape);
  const storage = backend.create({ shape, dtype });
  const check = (elements: number, fits: boolean): void => {
    if (fits) return;
    throw new ShapeError(
      `Cannot make ${
        format({ shape, dtype })
      } from chunks: they have ${elements} elements, and it takes ${size}`,
    );
  };
  try {
    let end = 0, written = 0;
    let held: Data = new Uint16Array(0);
    for await (const chunk of chunks) {
      end += chunk.length;
      check(end, end <= size);
      let data = toData(chunk, dtype, backend.precision);
      if (isHalf(dtype)) [data, held] = inPairs(held, data);
      backend.write(storage, dtype, written, data);
      written += data.length;
    }
    check(end, end === size);
    if (held.length > 0) backend.write(storage, dtype, written, held);
  } catch (error) {
    backend.free(storage);
    throw error;
  }
  return new Tensor([...shape], dtype, { kind: "stored", runtime, storage });
}

/** What is held and what is new, but for the last half where it has no other to fill a word with; and that. */
function inPairs(held: Data, fresh: Data): [pairs: Data, rest: Data] {
  let all = fresh;
  if (held.length > 0) {
    all = new Uint16Array(held.length + fresh.length);
    all.set(held);
    all.set(fresh, held.length);
  }
  const even = all.length & ~1;
  return [all.subarray(0, even), all.slice(even)];
}
