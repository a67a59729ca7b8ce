/**
 * Arbitrary shapes, tensors and trees for properties with fast-check, which the caller brings.
 *
 * This module is browser compatible.
 *
 * @module
 */

// Types alone: nothing of it is loaded.
import type * as module from "fast-check";
import type { DType, Shape } from "../mod.ts";
import { isHalf } from "../half.ts";
import { sizeOf } from "../shape.ts";
import { HostTensor, type HostTree } from "./host_tensor.ts";

/** What is used of fast-check. */
export type FastCheck = Pick<
  typeof module,
  | "array"
  | "constant"
  | "constantFrom"
  | "dictionary"
  | "integer"
  | "oneof"
  | "tuple"
  | "uniqueArray"
>;

/** Which shapes to draw. */
export interface ShapeOptions {
  /** Fewest axes; 0 when absent. */
  readonly minRank?: number;
  /** Most axes; 3 when absent. */
  readonly maxRank?: number;
  /** Least size of an axis; 1 when absent, 0 draws tensors without elements as well. */
  readonly minSize?: number;
  /** Largest size of an axis; 4 when absent. */
  readonly maxSize?: number;
}

/** Which tensors to draw. */
export interface TensorOptions {
  /** Their shape, or which shapes to draw. */
  readonly shape?: Shape | ShapeOptions;
  /** Their element type; f32 when absent. */
  readonly dtype?: DType;
  /** Least element; -3 when absent, 0 for u32. Elements of bool are 0 and 1. */
  readonly min?: number;
  /** Largest element; 3 when absent. */
  readonly max?: number;
  /** What no element of f32 comes near, such as 0 for `abs`: finite differences across a kink mean nothing. */
  readonly kinks?: readonly number[];
  /** Whether all elements differ, as they must where ties are kinks: for `max`, `sort` and their like. */
  readonly distinct?: boolean;
}

/** A record of tensors on the host, of which one is always there. */
export interface HostRecord {
  /** The tensor that is always there. */
  readonly weight: HostTensor;
  /** Others under other keys. */
  readonly [key: string]: HostTree;
}

/**
 * Arbitraries made with the fast-check of the caller. A counterexample is shrunk to few axes and elements near 0, and
 * printed as code that makes it.
 *
 * @example
 * ```ts
 * import { arbitraries, checkGrads } from "cotan/testing";
 * import fc from "fast-check";
 *
 * const { tensor } = arbitraries(fc);
 * const holds = fc.asyncProperty(tensor({ min: 0.1 }), (x) => checkGrads((x) => x.log().sum(), [x]));
 * await fc.assert(holds, { numRuns: 10 });
 * ```
 */
export function arbitraries(fc: FastCheck): {
  /** Shapes. */
  readonly shape: (
    options?: ShapeOptions,
  ) => ReturnType<typeof fc.constant<number[]>>;
  /** Two shapes that broadcast against each other. */
  readonly broadcastable: (
    options?: ShapeOptions,
  ) => ReturnType<typeof fc.constant<[number[], number[]]>>;
  /** Tensors on the host, which `checkGrads` takes as they are and `toTensors` brings to the backend. */
  readonly tensor: (
    options?: TensorOptions,
  ) => ReturnType<typeof fc.constant<HostTensor>>;
  /** Records of such tensors, and of records and arrays of them, with a hole here and there; one is at `weight`. */
  readonly tree: (
    options?: TensorOptions,
  ) => ReturnType<typeof fc.constant<HostRecord>>;
} {
  type Arbitrary<T> = ReturnType<typeof fc.constant<T>>;

  function shape(options: ShapeOptions = {}): Arbitrary<number[]> {
    const { minRank = 0, maxRank = 3, minSize = 1, maxSize = 4 } = options;
    const size = fc.integer({ min: minSize, max: maxSize });
    return fc.array(size, { minLength: minRank, maxLength: maxRank });
  }

  function broadcastable(
    options: ShapeOptions = {},
  ): Arbitrary<[number[], number[]]> {
    const { minRank = 0 } = options;
    return shape(options).chain((whole) => {
      const rank = fc.integer({ min: minRank, max: whole.length });
      // For each axis: both have it whole, the first is 1, or the second is.
      const narrow = fc.array(fc.integer({ min: 0, max: 2 }), {
        minLength: whole.length,
        maxLength: whole.length,
      });
      return fc.tuple(fc.tuple(rank, rank), narrow).map(([ranks, narrow]) =>
        [1, 2].map((side) => {
          const sizes = whole.map((d, i) => narrow[i] === side ? 1 : d);
          return sizes.slice(whole.length - ranks[side - 1]!);
        }) as [number[], number[]]
      );
    });
  }

  function element(options: TensorOptions): Arbitrary<number> {
    const { dtype = "f32", kinks = [] } = options;
    if (dtype === "bool") return fc.integer({ min: 0, max: 1 });
    const { min = dtype === "u32" ? 0 : -3, max = Math.max(3, min) } = options;
    if (!(min <= max)) {
      throw new RangeError(
        `Cannot draw elements from ${min} to ${max}: min must not be above max`,
      );
    }
    if (dtype !== "f32" && !isHalf(dtype)) return fc.integer({ min, max });
    if (min === max) return fc.constant(min);
    // Multiples of a power of two, which print short and have room for differences between them.
    const step = 2 ** Math.floor(Math.log2((max - min) / 256));
    return fc.integer({
      min: Math.ceil(min / step),
      max: Math.floor(max / step),
    })
      .map((n) => n * step)
      .filter((x) => kinks.every((kink) => Math.abs(x - kink) >= step / 2));
  }

  function tensor(options: TensorOptions = {}): Arbitrary<HostTensor> {
    const { dtype = "f32", distinct = false, shape: given = {} } = options;
    const one = element(options);
    const shapes: Arbitrary<Shape> = isShape(given)
      ? fc.constant(given)
      : shape(given);
    return shapes.chain((shape) => {
      const size = sizeOf(shape);
      const length = { minLength: size, maxLength: size };
      return (distinct ? fc.uniqueArray(one, length) : fc.array(one, length))
        .map((data) => new HostTensor(shape, dtype, data));
    });
  }

  function tree(options: TensorOptions = {}): Arbitrary<HostRecord> {
    const key = fc.constantFrom("weight", "bias", "layers", "head");
    const record = (child: Arbitrary<HostTree>) =>
      fc.dictionary(key, child, { minKeys: 1, noNullPrototype: true });
    const leaf = tensor(options);
    const node = (depth: number): Arbitrary<HostTree> =>
      depth === 0 ? leaf : fc.oneof(
        { weight: 6, arbitrary: leaf },
        { weight: 1, arbitrary: fc.constant(null) },
        { weight: 2, arbitrary: fc.array(node(depth - 1), { maxLength: 3 }) },
        { weight: 2, arbitrary: record(node(depth - 1)) },
      );
    return fc.tuple(record(node(2)), leaf)
      .map(([rest, weight]) => ({ ...rest, weight }));
  }

  return { shape, broadcastable, tensor, tree };
}

function isShape(value: Shape | ShapeOptions): value is Shape {
  return Array.isArray(value);
}
