/**
 * Tensors on the host: what arbitraries give, since it prints as the code that makes it and belongs to no backend.
 *
 * This module is browser compatible.
 *
 * @module
 */

import {
  type DType,
  type Shape,
  type Tensor,
  tensor,
  type tree,
} from "../mod.ts";
import { sizeOf } from "../shape.ts";
import { isRecord } from "../structure.ts";
import { nest } from "../tensor.ts";

/** The elements of a tensor, with its shape and dtype. */
export class HostTensor {
  /** Sizes of the axes. */
  readonly shape: Shape;
  /** Element type. */
  readonly dtype: DType;
  /** Elements in row-major order. */
  readonly data: readonly number[];

  /** Elements of a shape in row-major order, those of bool as 0 and 1. */
  constructor(shape: Shape, dtype: DType, data: readonly number[]) {
    this.shape = shape;
    this.dtype = dtype;
    this.data = data;
  }

  /** The code that makes it: `tensor([[1, 2]], { dtype: "i32" })`. */
  toString(): string {
    const { shape, dtype } = this;
    const isEmpty = sizeOf(shape) === 0;
    const options = [
      ...isEmpty ? [`shape: ${JSON.stringify(shape)}`] : [],
      ...dtype === "f32" || dtype === "bool" && !isEmpty
        ? []
        : [`dtype: "${dtype}"`],
    ];
    const values = JSON.stringify(isEmpty ? [] : nest(this.data, this));
    const rest = options.length > 0 ? `, { ${options.join(", ")} }` : "";
    return `tensor(${values}${rest})`;
  }
}

/** Tensors on the host in plain records and arrays, null for holes. */
export type HostTree =
  | HostTensor
  | null
  | readonly HostTree[]
  | { readonly [key: string]: HostTree };

/** The type of a tree whose tensors have been brought to the backend. */
export type OnBackend<T> = HostTree extends T ? tree.Tree
  : T extends HostTensor ? Tensor
  : T extends Tensor ? T
  : { -readonly [K in keyof T]: OnBackend<T[K]> };

/**
 * The same tree with each tensor of the host as one on the current backend; whatever else it holds stays.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { HostTensor, toTensors } from "cotan/testing";
 *
 * const ids = new HostTensor([2, 1], "i32", [3, 4]);
 * assertEquals(String(ids), 'tensor([[3],[4]], { dtype: "i32" })');
 * const { x } = toTensors({ x: ids });
 * assertEquals(await x.toArray(), [[3], [4]]);
 * ```
 */
export function toTensors<const T>(values: T): OnBackend<T> {
  return bring(values) as OnBackend<T>;
}

function bring(value: unknown): unknown {
  if (value instanceof HostTensor) {
    const { data, shape, dtype } = value;
    return tensor([...data], { shape, dtype });
  }
  if (Array.isArray(value)) return value.map(bring);
  if (!isRecord(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, child]) => [key, bring(child)]),
  );
}
