/**
 * Kernels: the small backend-neutral form that a graph is planned into and that backends turn into code.
 *
 * A kernel loops over an index space `shape`. Its expressions read buffers through strided or gathered views over the
 * loop indices, and each output is stored through a view as well. All offsets and strides count elements.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { DType } from "../dtype.ts";
import type { FusedSpec } from "../fused_spec.ts";
import type { ElementwiseName, Graph } from "../node.ts";
import type { Shape } from "../shape.ts";

/** An affine function of the loop indices: `offset + Σ strides[axis] · index[axis]`. */
export interface View {
  /** Value at index 0. */
  readonly offset: number;
  /** Step on each axis; 0 repeats, negative runs backwards. */
  readonly strides: readonly number[];
}

/** Scalar functions of kernels: the elementwise primitives that compute something, and the random bits. */
export type ScalarOp =
  | Exclude<ElementwiseName, "cast" | "alias" | "stopGradient">
  | "threefry";

/** A scalar expression at one point of the index space. Shared subexpressions are the same object. */
export type Expr =
  /** The element of a buffer at a view. */
  | {
    readonly kind: "load";
    readonly buffer: number;
    readonly view: View;
    readonly dtype: DType;
  }
  /** The element at `view + stride · clamp(index, 0, size - 1)`. */
  | {
    readonly kind: "gather";
    readonly buffer: number;
    readonly view: View;
    readonly index: Expr;
    readonly stride: number;
    readonly size: number;
    readonly dtype: DType;
  }
  /** The element at `floor(view / times)`: each stands `times` times. */
  | {
    readonly kind: "repeat";
    readonly buffer: number;
    readonly view: View;
    readonly times: number;
    readonly dtype: DType;
  }
  /**
   * What some bits of a buffer of u32 words stand for: of its bytes, or groups of four bits where there are `levels`, the
   * one at `view`, the first in the lowest bits. A byte is the number that it is; four bits are one of sixteen levels.
   */
  | {
    readonly kind: "unpack";
    readonly buffer: number;
    readonly view: View;
    readonly levels: readonly number[] | null;
    readonly dtype: "f32";
  }
  /** A number. */
  | {
    readonly kind: "const";
    readonly value: number;
    readonly dtype: DType;
  }
  /** The value of an affine function of the loop indices. */
  | {
    readonly kind: "index";
    readonly view: View;
    readonly dtype: DType;
  }
  /** What the reduction of that number, or a matmul as number 0, has computed for this point. */
  | { readonly kind: "acc"; readonly index: number; readonly dtype: DType }
  /**
   * A conversion between dtypes: of f32 to an integer it truncates toward zero, stops at the ends of the range, and
   * makes 0 of NaN; of one integer type to the other it keeps the bits; to bool it is x ≠ 0. A half is widened to f32
   * and then converted, and what becomes one is converted to f32 and then narrowed.
   */
  | {
    readonly kind: "cast";
    readonly arg: Expr;
    readonly dtype: DType;
  }
  /**
   * A scalar function. `threefry` takes (key0, key1, i, stream), all u32, and gives word i mod 2 of
   * threefry2x32-20 with counter [i div 2, stream].
   */
  | {
    readonly kind: "call";
    readonly op: ScalarOp;
    readonly args: readonly Expr[];
    readonly dtype: DType;
  };

/** The expressions that an expression is made of. */
export function operandsOf(expr: Expr): readonly Expr[] {
  switch (expr.kind) {
    case "call":
      return expr.args;
    case "cast":
      return [expr.arg];
    case "gather":
      return [expr.index];
    default:
      return [];
  }
}

/** One store: `buffer[view] = expr` at each point of the index space. */
export interface Output {
  /** Which buffer of the kernel. */
  readonly buffer: number;
  /** Where in it, over `shape`. */
  readonly view: View;
  /** The value. */
  readonly expr: Expr;
}

/** Computes `outputs` at each point of `shape`. Where a load and the store have the same buffer, their views are equal. */
export interface MapKernel {
  /** Discriminates kernels. */
  readonly kind: "map";
  /** Loop extents. */
  readonly shape: Shape;
  /** Stores. */
  readonly outputs: readonly Output[];
}

/** One accumulator: `body` combined over the reduced loops. Of nothing it is 0 for sum, -Infinity for max. */
export interface Reduction {
  /** How elements combine. */
  readonly combine: "sum" | "max";
  /** What is combined. */
  readonly body: Expr;
}

/** One walk over the reduced loops: reductions side by side, and stores at each of its points. */
export interface Pass {
  /** What is accumulated. */
  readonly reductions: readonly Reduction[];
  /** What is stored at each point of `[...shape, ...over]`. */
  readonly outputs: readonly Output[];
}

/**
 * At each point of `shape`: the passes over the extents `over` one after another, then `outputs`.
 *
 * Views of passes run over `[...shape, ...over]`, views of `outputs` over `shape`. Accumulators are numbered through
 * all passes; an expression reads those of earlier passes only. A pass may load what it or an earlier pass stores, at
 * the view of the store only: each point is then read before it is written.
 */
export interface ReduceKernel {
  /** Discriminates kernels. */
  readonly kind: "reduce";
  /** Loop extents of the result. */
  readonly shape: Shape;
  /** Loop extents that are reduced. */
  readonly over: Shape;
  /** Walks over `over`; at least one. */
  readonly passes: readonly Pass[];
  /** Stores. */
  readonly outputs: readonly Output[];
}

/**
 * A matrix operand: element (b, i, j) is at `view` over `[...batch, rows, columns]`; or it is the value of `expr` there,
 * which is the same in the whole batch, and `buffer` and `view` are those of what it unpacks.
 */
export interface Matrix {
  /** Which buffer of the kernel. */
  readonly buffer: number;
  /** Where in it. */
  readonly view: View;
  /** f32, or a half that is widened as it is read. */
  readonly dtype: DType;
  /** What is computed of elements as they are read, for backends whose limits say so. */
  readonly expr?: Expr;
}

/**
 * `acc[b, i, j] = Σ_k a[b, i, k] · b[b, k, j]` for i < m, j < n, k < `k`, then `outputs` over `shape` = [...batch, m, n].
 * Views of `a` run over [...batch, m, k], views of `b` over [...batch, k, n]. The output buffers are none of the others.
 */
export interface MatmulKernel {
  /** Discriminates kernels. */
  readonly kind: "matmul";
  /** [...batch, m, n]. */
  readonly shape: Shape;
  /** Inner size. */
  readonly k: number;
  /** Left operand. */
  readonly a: Matrix;
  /** Right operand. */
  readonly b: Matrix;
  /** Stores. */
  readonly outputs: readonly Output[];
}

/**
 * At each point of `shape`, one after another along `axis`:
 * `buffer[view + stride · clamp(index, 0, size - 1)] += source`. The view's stride on `axis` is 0, so that points which
 * differ on another axis never meet; points along `axis` may. The buffer holds its first values already.
 */
export interface ScatterKernel {
  /** Discriminates kernels. */
  readonly kind: "scatter";
  /** Loop extents. */
  readonly shape: Shape;
  /** The axis that runs in order. */
  readonly axis: number;
  /** Which buffer of the kernel is added to; neither expression reads it. */
  readonly buffer: number;
  /** Where in it, but for the indexed axis. */
  readonly view: View;
  /** Distance of neighbours along the indexed axis. */
  readonly stride: number;
  /** Size of the indexed axis. */
  readonly size: number;
  /** Position along the indexed axis, i32. */
  readonly index: Expr;
  /** What is added. */
  readonly source: Expr;
}

/** An operand or result of a fused function: its elements are at `view` over its shape. */
export interface Strided extends Matrix {
  /** Its shape. */
  readonly shape: Shape;
}

/** A function that a backend has code of its own for. The buffers of its results are none of the others. */
export interface FusedKernel<S extends FusedSpec = FusedSpec> {
  /** Discriminates kernels. */
  readonly kind: "fused";
  /** Which function. */
  readonly spec: S;
  /** Shape of the first result. */
  readonly shape: Shape;
  /** What it reads. */
  readonly operands: readonly Strided[];
  /** Where it stores its results; null for one that nobody reads. */
  readonly results: readonly (Strided | null)[];
  /** What it computes: an input for each operand, an output for each result. */
  readonly definition: Graph;
}

/** A kernel with one index space. */
export type SimpleKernel =
  | MapKernel
  | ReduceKernel
  | MatmulKernel
  | ScatterKernel
  | FusedKernel;

/** Kernels that are independent of one another, in one launch: the update of many parameters, say. */
export interface GroupKernel {
  /** Discriminates kernels. */
  readonly kind: "group";
  /** The kernels; their buffers are numbered together. */
  readonly parts: readonly SimpleKernel[];
}

/** A unit of work. Buffers are numbered from 0 and each stands once in `Step.buffers`. */
export type Kernel = SimpleKernel | GroupKernel;

/** Where a value of a plan lives. */
export type Place =
  /** The i-th input of the program. */
  | { readonly kind: "input"; readonly index: number }
  /** The i-th output of the program, in a storage of its own. */
  | { readonly kind: "output"; readonly index: number }
  /** A slot in the arena: `bytes` from `offset` in a page. */
  | {
    readonly kind: "arena";
    readonly page: number;
    readonly offset: number;
    readonly bytes: number;
  };

/** One kernel and the places of its buffers. */
export interface Step {
  /** The work. */
  readonly kernel: Kernel;
  /** Place of each buffer of the kernel. */
  readonly buffers: readonly Place[];
  /** Dtype of each buffer of the kernel. */
  readonly dtypes: readonly DType[];
}

/** How an output of a program comes to be. */
export type OutputSource =
  /** In a new storage. */
  | { readonly kind: "new"; readonly size: number; readonly dtype: DType }
  /** In the storage of a donated input, which is updated in place or passed through. */
  | { readonly kind: "input"; readonly index: number };

/** Steps that run several times. */
export interface Loop {
  /** The first step. */
  readonly first: number;
  /** The step after the last. */
  readonly end: number;
  /** How often they run. */
  readonly trips: number;
}

/** A planned program: steps to run in order. */
export interface Plan {
  /** Number of inputs. */
  readonly inputs: number;
  /** Where each output comes from. */
  readonly outputs: readonly OutputSource[];
  /** Donated inputs whose storage no output takes over: freed after the run. */
  readonly freed: readonly number[];
  /** The work, in order. */
  readonly steps: readonly Step[];
  /** Steps that repeat; outer before inner loops. */
  readonly loops: readonly Loop[];
  /** Bytes of each arena page. */
  readonly pages: readonly number[];
}
