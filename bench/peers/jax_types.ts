/**
 * The types of jax-js, as far as the bench uses it: the package itself is loaded by a name that no checker follows.
 *
 * @module
 */

/** An array, as far as it is used here. */
export interface Array_ {
  readonly ref: Array_;
  readonly shape: number[];
  add(other: Array_ | number): Array_;
  sub(other: Array_ | number): Array_;
  mul(other: Array_ | number): Array_;
  div(other: Array_ | number): Array_;
  sum(axis?: number): Array_;
  mean(axis: number, options: { keepdims: boolean }): Array_;
  reshape(shape: readonly number[]): Array_;
  slice(index: Array_): Array_;
  data(): Promise<Float32Array>;
  blockUntilReady(): Promise<unknown>;
  dispose(): void;
}

export type Named = Record<string, Array_>;
export type Trees = Array_ | readonly Trees[] | {
  readonly [name: string]: Trees;
};

/** The package, as far as it is used here. */
export interface Jax {
  init(device: string): Promise<unknown>;
  defaultDevice(device: string): unknown;
  jit<A extends Trees[], R>(f: (...args: A) => R): (...args: A) => R;
  grad<A extends Trees[]>(f: (...args: A) => Array_): (...args: A) => A[0];
  valueAndGrad<A extends Trees[]>(
    f: (...args: A) => Array_,
  ): (...args: A) => [Array_, A[0]];
  numpy: {
    array(
      data: Float32Array | Int32Array | number,
      options?: { shape: readonly number[]; dtype: unknown },
    ): Array_;
    zeros(shape: readonly number[]): Array_;
    matmul(a: Array_, b: Array_): Array_;
    transpose(x: Array_, axes?: number[]): Array_;
    square(x: Array_): Array_;
    sqrt(x: Array_): Array_;
    subtract(a: number, b: Array_): Array_;
    argmax(x: Array_, axis: number): Array_;
    float32: unknown;
    int32: unknown;
  };
  nn: {
    gelu(x: Array_): Array_;
    softmax(x: Array_, axis: number): Array_;
    logSoftmax(x: Array_, axis: number): Array_;
  };
  tree: {
    ref<T extends Trees>(tree: T): T;
    dispose(tree: Trees): void;
    leaves(tree: Trees): Array_[];
  };
}

/** The version that is measured. */
