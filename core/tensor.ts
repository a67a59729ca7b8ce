/**
 * Tensors: immutable arrays on the current backend, or values of a function being traced.
 *
 * This module is browser compatible.
 *
 * @module
 */

import type { Storage } from "./backend.ts";
import { currentScope, type Runtime, type Trace } from "./context.ts";
import type { Data, DType } from "./dtype.ts";
import { DisposedError, DTypeError, invariant } from "./errors.ts";
import { isHalf, widen } from "./half.ts";
import type { Node } from "./node.ts";
import type { Methods, NestedArray } from "./tensor_methods.ts";
import { format, type Shape, sizeOf, type Type } from "./shape.ts";

/** An immutable n-dimensional array, with the operations as methods. */
// Declared with the class of the same name: core/methods.ts gives the class these methods.
export interface Tensor extends Methods {}

/** What a tensor is made of. */
export type State =
  | {
    readonly kind: "stored";
    readonly runtime: Runtime;
    readonly storage: Storage;
  }
  | { readonly kind: "traced"; readonly trace: Trace; readonly node: Node }
  | { readonly kind: "gone"; readonly why: string };

let stateIn: (tensor: Tensor) => State;
let setState: (tensor: Tensor, state: State) => void;

/** An immutable n-dimensional array. Made by `tensor`, `zeros` and their like, or by operations. */
export class Tensor implements Disposable {
  /** Sizes of the axes. */
  readonly shape: Shape;
  /** Element type. */
  readonly dtype: DType;
  #state: State;

  static {
    stateIn = (tensor) => tensor.#state;
    setState = (tensor, state) => {
      tensor.#state = state;
    };
  }

  /** Not for users: tensors come from `tensor(...)` and operations. */
  constructor(shape: Shape, dtype: DType, state: State) {
    this.shape = Object.freeze([...shape]);
    this.dtype = dtype;
    this.#state = state;
    if (state.kind !== "stored") return;
    state.runtime.tensors++;
    state.runtime.watch?.(this);
    safetyNet.register(this, state, this);
    currentScope()?.add(this);
  }

  /**
   * Reads the elements back in row-major order; those of f16 and bf16 as the float32 that each equals. Throws under a
   * transformation, where there is no value yet.
   */
  data(): Promise<Data> {
    const { dtype } = this;
    const stored = this.#download();
    return isHalf(dtype) ? stored.then((bits) => widen(bits, dtype)) : stored;
  }

  /**
   * Reads the bits of the elements of an f16 or bf16 tensor back, which `tensor` takes as they are. Throws `DTypeError`
   * for another dtype.
   */
  bits(): Promise<Uint16Array> {
    if (!isHalf(this.dtype)) {
      throw new DTypeError(
        `Cannot take bits() of ${this}: it must be f16 or bf16; use data()`,
      );
    }
    return this.#download() as Promise<Uint16Array>;
  }

  #download(): Promise<Data> {
    const { runtime, storage } = storedState(this, "read");
    const { backend } = runtime;
    return backend.download(storage, this.dtype, sizeOf(this.shape));
  }

  /** Reads the only element back. */
  item(): Promise<number> {
    if (sizeOf(this.shape) !== 1) {
      throw new RangeError(
        `Cannot take item() of ${this}: it has ${
          sizeOf(this.shape)
        } elements; use data()`,
      );
    }
    return this.data().then(([value]) => value!);
  }

  /** Reads the elements back as nested arrays. */
  toArray(): Promise<NestedArray> {
    return this.data().then((flat) => nest(flat, this));
  }

  /** Frees the memory now. Using the tensor afterwards throws `DisposedError`; disposing of it again does nothing. */
  dispose(): void {
    const state = this.#state;
    if (state.kind === "traced" && isArgument(state.node)) {
      throw new TypeError(
        `Cannot dispose of ${this} in a function that is traced: it is an argument, which the caller owns; ` +
          `donate it to jit, or dispose of it after the call`,
      );
    }
    if (state.kind !== "stored") return;
    release(this, "was disposed of");
    state.runtime.backend.free(state.storage);
  }

  /** Frees the memory: what `using` calls. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** The type: `f32[2, 3]`. */
  toString(): string {
    return format(this);
  }

  /** The type as text. As a number it throws: `x > 0` would be false whatever x is. */
  [Symbol.toPrimitive](hint: string): string {
    if (hint === "string") return format(this);
    throw new TypeError(
      `Cannot take ${this} for a number: its value is not known here; use gt, add or where, or await item()`,
    );
  }

  /** The type, for the console. */
  [Symbol.for("Deno.customInspect")](): string {
    return `Tensor ${format(this)}`;
  }
}

/** Elements in row-major order as nested arrays, those of bool as booleans. */
export function nest(
  flat: ArrayLike<number>,
  { shape, dtype }: Type,
): NestedArray {
  let at = 0;
  const level = (axis: number): NestedArray => {
    if (axis < shape.length) {
      return Array.from({ length: shape[axis]! }, () => level(axis + 1));
    }
    const value = flat[at++]!;
    return dtype === "bool" ? value !== 0 : value;
  };
  return level(0);
}

/** Whether a node stands for an argument: transformations pass them as inputs or aliases. */
function isArgument({ op }: Node): boolean {
  return op === "input" || op === "alias";
}

/** Frees storages of tensors that were dropped without `dispose`; a safety net, since it comes late. */
const safetyNet = new FinalizationRegistry<State & { kind: "stored" }>(
  ({ runtime, storage }) => {
    runtime.tensors--;
    runtime.backend.free(storage);
  },
);

/** What a tensor is made of. */
export function stateOf(tensor: Tensor): State {
  return stateIn(tensor);
}

/** Takes a tensor's storage away without freeing it: for disposal and donation. */
export function release(tensor: Tensor, why: string): Storage {
  const state = stateIn(tensor);
  invariant(state.kind === "stored", "only a stored tensor is released");
  safetyNet.unregister(tensor);
  state.runtime.tensors--;
  setState(tensor, { kind: "gone", why });
  return state.storage;
}

/** The storage of a concrete tensor; `use` says what for, in the error. */
export function storedState(
  tensor: Tensor,
  use: string,
): State & { kind: "stored" } {
  const state = stateIn(tensor);
  if (state.kind === "stored") return state;
  if (state.kind === "gone") {
    throw new DisposedError(`Cannot ${use} ${tensor}: it ${state.why}`);
  }
  throw new TypeError(
    `Cannot ${use} ${tensor} while a function is traced: it has no value yet; return it and ${use} the result, ` +
      `or branch with where()`,
  );
}
