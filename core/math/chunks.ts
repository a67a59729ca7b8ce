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
import { checkShape, format, type Shape, sizeOf } from "../shape.ts";
import { Tensor } from "../tensor.ts";
import type { DTypeOptions } from "./create.ts";

/**
 * A tensor of elements that come in pieces, in row-major order: each is copied to the backend before the next is asked
 * for, so a source may fill one buffer again and again, and the host never holds more than that.
 *
 * The dtype is f32 unless `dtype` says another. Throws `ShapeError` where the pieces have more or fewer elements than
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
    let end = 0;
    for await (const chunk of chunks) {
      const offset = end;
      end += chunk.length;
      check(end, end <= size);
      const data = toData(chunk, dtype, backend.precision);
      backend.write(storage, dtype, offset, data);
    }
    check(end, end === size);
  } catch (error) {
    backend.free(storage);
    throw error;
  }
  return new Tensor([...shape], dtype, { kind: "stored", runtime, storage });
}
