/**
 * Broadcasting: operands of elementwise functions brought to one shape and dtype.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { DType } from "../dtype.ts";
import { DTypeError, ShapeError, withCaller } from "../errors.ts";
import { isHalf } from "../half.ts";
import { fill } from "../ops.ts";
import { expectWide } from "../rules.ts";
import { broadcastShapes, format, type Shape } from "../shape.ts";
import { Tensor } from "../tensor.ts";
import type { TensorLike } from "../tensor_methods.ts";
import { traced } from "../trace.ts";
import { expand } from "./movement.ts";

/** A tensor of one number, alike another in dtype; for use while tracing. */
export function constant(value: number, dtype: DType, shape: Shape): Tensor {
  return traced(fill({ shape, dtype }, value));
}

/** Operands broadcast to one shape; numbers take the dtype of the tensors. */
export function broadcast(
  op: string,
  operands: readonly TensorLike[],
): Tensor[] {
  const tensors = operands.filter((x) => typeof x !== "number");
  const [first] = tensors;
  if (!first) {
    throw new DTypeError(`Cannot ${op} numbers alone: pass a tensor`);
  }
  const dtype = tensors.at(-1)!.dtype;
  let shape: Shape = first.shape;
  for (const x of tensors) {
    const both = broadcastShapes(shape, x.shape);
    if (!both) {
      throw new ShapeError(
        `Cannot ${op} ${format(first)} and ${format(x)}: ${
          mismatch(shape, x.shape)
        }`,
      );
    }
    shape = both;
  }
  return operands.map((x) =>
    typeof x === "number"
      ? constant(checkNumber(op, x, dtype), dtype, shape)
      : expand(x, shape)
  );
}

/** Throws where an operand is neither tensor nor number, or tensors among them differ in dtype, or are halves. */
export function expectOneDType(
  op: string,
  operands: readonly TensorLike[],
): void {
  const tensors = operands.filter((x) => typeof x !== "number");
  if (!tensors.every((x) => x instanceof Tensor)) {
    throw withCaller(
      new TypeError(
        `Cannot ${op} ${
          operands.map((x) => format(x as Tensor)).join(" and ")
        }: operands are tensors and numbers; use tensor()`,
      ),
    );
  }
  const [first, ...rest] = tensors;
  const other = rest.find((x) => x.dtype !== first!.dtype);
  if (other) {
    throw new DTypeError(
      `Cannot ${op} ${format(first!)} and ${
        format(other)
      }: the dtypes differ; use cast`,
    );
  }
  if (first) expectWide(op, first);
}

function checkNumber(op: string, x: number, dtype: DType): number {
  if (dtype !== "f32" && !isHalf(dtype) && !Number.isInteger(x)) {
    throw new DTypeError(
      `Cannot ${op} the number ${x} and a tensor of ${dtype}: it is no integer; use cast`,
    );
  }
  return x;
}

function mismatch(a: Shape, b: Shape): string {
  for (let i = 1; i <= Math.min(a.length, b.length); i++) {
    const x = a.at(-i)!, y = b.at(-i)!;
    if (x !== y && x !== 1 && y !== 1) {
      return `sizes ${x} and ${y} on axis ${-i} do not broadcast`;
    }
  }
  return "the shapes do not broadcast";
}
