/**
 * The operations as methods of tensors, and their options.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { DType } from "./dtype.ts";
import type { Shape } from "./shape.ts";
import type { Tensor } from "./tensor.ts";

/** A tensor, or a number, which broadcasts and takes the other operand's dtype. */
export type TensorLike = Tensor | number;

/** Nested arrays of numbers or booleans, as deep as a tensor has axes. */
export type NestedArray = number | boolean | readonly NestedArray[];

/** Which axes a reduction takes. */
export interface ReduceOptions {
  /** One axis or several, counted from the back where negative; all when absent. */
  readonly axis?: number | readonly number[];
  /** Keep the reduced axes with size 1. */
  readonly keepDims?: boolean;
}

/** Which axis an operation runs along. */
export interface AxisOptions {
  /** The axis, counted from the back where negative. */
  readonly axis?: number;
}

/** A range of `slice`: start, stop, and step; a null start or stop is the end of the axis, null takes all of it. */
export type Range =
  | readonly [start: number | null, stop: number | null, step?: number]
  | null;

/** What `index` takes of an axis: one element, a range, all of it (null), or the elements of an i32 tensor. */
export type Index = number | Range | Tensor;

/** Which axis is sorted, and which way. */
export interface SortOptions extends AxisOptions {
  /** Largest first; smallest first when absent. */
  readonly descending?: boolean;
}

/** The largest elements along an axis. */
export interface TopK {
  /** The elements, largest first. */
  readonly values: Tensor;
  /** Where they stand along the axis, i32. */
  readonly indices: Tensor;
}

/** How a kernel goes over a tensor; one number for all axes, or one for each. */
export interface ConvOptions {
  /** Distance of neighbouring results; 1 when absent. */
  readonly stride?: number | readonly number[];
  /** Zeros on both sides; "same" for a result as large as the tensor, but for the stride. None when absent. */
  readonly padding?: number | readonly number[] | "same" | "valid";
  /** Distance of the elements that neighbours in the kernel meet; 1 when absent. */
  readonly dilation?: number | readonly number[];
  /** Number of groups of channels, each with its own part of the weight; 1 when absent. */
  readonly groups?: number;
}

/** The operations as methods; each is the free function of its name with the tensor as first argument. */
export interface Methods {
  /** -x. */
  neg(): Tensor;
  /** |x|. */
  abs(): Tensor;
  /** -1, 0 or 1. */
  sign(): Tensor;
  /** x². */
  square(): Tensor;
  /** √x. */
  sqrt(): Tensor;
  /** 1 / √x. */
  rsqrt(): Tensor;
  /** 1 / x. */
  reciprocal(): Tensor;
  /** eˣ. */
  exp(): Tensor;
  /** eˣ - 1. */
  expm1(): Tensor;
  /** Natural logarithm. */
  log(): Tensor;
  /** log(1 + x). */
  log1p(): Tensor;
  /** Sine. */
  sin(): Tensor;
  /** Cosine. */
  cos(): Tensor;
  /** Tangent. */
  tan(): Tensor;
  /** Hyperbolic tangent. */
  tanh(): Tensor;
  /** Error function. */
  erf(): Tensor;
  /** Rounded down. */
  floor(): Tensor;
  /** Rounded up. */
  ceil(): Tensor;
  /** Rounded to the nearest integer, halves to even. */
  round(): Tensor;
  /** Rounded toward zero. */
  trunc(): Tensor;
  /** 1 / (1 + e⁻ˣ). */
  sigmoid(): Tensor;
  /** log(sigmoid(x)). */
  logSigmoid(): Tensor;
  /** max(x, 0). */
  relu(): Tensor;
  /** x where positive, slope · x elsewhere. */
  leakyRelu(options?: { readonly slope?: number }): Tensor;
  /** x where positive, alpha · (eˣ - 1) elsewhere. */
  elu(options?: { readonly alpha?: number }): Tensor;
  /** x · sigmoid(x). */
  silu(): Tensor;
  /** log(1 + eˣ). */
  softplus(): Tensor;
  /** x · Φ(x). */
  gelu(options?: { readonly approximate?: "none" | "tanh" }): Tensor;
  /** Whether each element is NaN. */
  isNaN(): Tensor;
  /** Logical not. */
  not(): Tensor;
  /** Limited to [min, max]. */
  clip(min: number, max: number): Tensor;
  /** Converted to a dtype. */
  cast(dtype: DType): Tensor;
  /** The same value, from which no gradient flows. */
  stopGradient(): Tensor;
  /** x + y. */
  add(y: TensorLike): Tensor;
  /** x - y. */
  sub(y: TensorLike): Tensor;
  /** x · y. */
  mul(y: TensorLike): Tensor;
  /** x / y. */
  div(y: TensorLike): Tensor;
  /** What is left of x / y, with the sign of y. */
  mod(y: TensorLike): Tensor;
  /** xʸ. */
  pow(y: TensorLike): Tensor;
  /** The smaller of the two. */
  minimum(y: TensorLike): Tensor;
  /** The larger of the two. */
  maximum(y: TensorLike): Tensor;
  /** x = y. */
  eq(y: TensorLike): Tensor;
  /** x ≠ y. */
  ne(y: TensorLike): Tensor;
  /** x < y. */
  lt(y: TensorLike): Tensor;
  /** x ≤ y. */
  le(y: TensorLike): Tensor;
  /** x > y. */
  gt(y: TensorLike): Tensor;
  /** x ≥ y. */
  ge(y: TensorLike): Tensor;
  /** Logical and. */
  and(y: Tensor): Tensor;
  /** Logical or. */
  or(y: Tensor): Tensor;
  /** Sum over axes. */
  sum(options?: ReduceOptions): Tensor;
  /** Product over axes. */
  prod(options?: ReduceOptions): Tensor;
  /** Sums up to each element along an axis. */
  cumsum(options?: AxisOptions): Tensor;
  /** Mean over axes. */
  mean(options?: ReduceOptions): Tensor;
  /** Largest over axes. */
  max(options?: ReduceOptions): Tensor;
  /** Smallest over axes. */
  min(options?: ReduceOptions): Tensor;
  /** log Σ eˣ over axes. */
  logSumExp(options?: ReduceOptions): Tensor;
  /** Variance over axes. */
  variance(options?: ReduceOptions & { readonly correction?: number }): Tensor;
  /** Index of the first largest element along an axis, i32. */
  argmax(options?: AxisOptions): Tensor;
  /** Index of the first smallest element along an axis, i32. */
  argmin(options?: AxisOptions): Tensor;
  /** eˣ / Σ eˣ along an axis. */
  softmax(options?: AxisOptions): Tensor;
  /** log softmax along an axis. */
  logSoftmax(options?: AxisOptions): Tensor;
  /** The same elements in another shape; one size may be -1. */
  reshape(shape: Shape): Tensor;
  /** Axes in another order; reversed when absent. */
  transpose(perm?: Shape): Tensor;
  /** Broadcast to a shape. */
  expand(shape: Shape): Tensor;
  /** Without axes of size 1. */
  squeeze(axis?: number | readonly number[]): Tensor;
  /** With a new axis of size 1. */
  unsqueeze(axis: number): Tensor;
  /** Axes reversed. */
  flip(axes?: number | readonly number[]): Tensor;
  /** Repeated along each axis. */
  tile(reps: Shape): Tensor;
  /** Zero above the k-th diagonal of the last two axes. */
  tril(options?: { readonly k?: number }): Tensor;
  /** Zero below the k-th diagonal of the last two axes. */
  triu(options?: { readonly k?: number }): Tensor;
  /** Ranges of the leading axes. */
  slice(ranges: readonly Range[]): Tensor;
  /** With margins on each axis. */
  pad(
    margins: readonly (readonly [before: number, after: number])[],
    options?: { readonly value?: number },
  ): Tensor;
  /** Cut into pieces along an axis. */
  split(sizes: Shape, options?: AxisOptions): Tensor[];
  /** Elements, ranges and picks of the leading axes, as in NumPy. */
  index(at: readonly Index[]): Tensor;
  /** Slices picked along an axis, as numpy.take. */
  take(index: Tensor, options?: AxisOptions): Tensor;
  /** The bytes of words, or with sixteen levels those that each four bits tell, as f32. */
  unpack(levels?: readonly number[]): Tensor;
  /** Elements picked along an axis, as torch.gather. */
  gather(index: Tensor, options?: AxisOptions): Tensor;
  /** Elements added where an index points, as torch.scatter_add. */
  scatterAdd(index: Tensor, source: Tensor, options?: AxisOptions): Tensor;
  /** One-hot vectors along a new last axis, f32. */
  oneHot(classes: number): Tensor;
  /** Indices that sort along an axis, i32. */
  argsort(options?: SortOptions): Tensor;
  /** In order along an axis. */
  sort(options?: SortOptions): Tensor;
  /** The k largest along an axis. */
  topK(k: number, options?: AxisOptions): TopK;
  /** Convolution over one or two axes. */
  conv(weight: Tensor, options?: ConvOptions): Tensor;
  /** Matrix product by NumPy's rules. */
  matmul(y: Tensor): Tensor;
  /** Inner product of vectors. */
  dot(y: Tensor): Tensor;
  /** Outer product of vectors. */
  outer(y: Tensor): Tensor;
}
