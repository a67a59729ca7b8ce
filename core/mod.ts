/**
 * The engine: tensors, operations, transformations, trees and random keys.
 *
 * This module is browser compatible.
 *
 * @module
 */

import { installMethods } from "./methods.ts";
import * as random from "./random.ts";
import * as tree from "./tree.ts";

installMethods();

export { random, tree };
export * from "./errors.ts";
export * from "./math/mod.ts";
export type { BackendName } from "./backend.ts";
export { checkpoint } from "./checkpoint.ts";
export { customVjp, type VjpRule } from "./custom_vjp.ts";
export type { Data, DType } from "./dtype.ts";
export { hvp, jvp, vjp } from "./forward.ts";
export {
  grad,
  type LossFunction,
  valueAndGrad,
  valueAndGradAux,
  type ValueAndGrads,
} from "./grad.ts";
export { init, type InitOptions, type OpenBackend } from "./init.ts";
export { hessian, jacobian } from "./jacobian.ts";
export { jit, type JitOptions, type Jitted } from "./jit.ts";
export { type Memory, memory, scope } from "./memory.ts";
export { compileSelector, type SelectorOptions } from "./selector.ts";
export { scan, type Scanned, type ScanOptions } from "./scan.ts";
export type { Program, ProgramKernel } from "./plan/describe.ts";
export { format, type Shape, type Type } from "./shape.ts";
export { Tensor } from "./tensor.ts";
export type {
  AxisOptions,
  ConvOptions,
  Index,
  Methods,
  NestedArray,
  Range,
  ReduceOptions,
  SortOptions,
  TensorLike,
  TopK,
} from "./tensor_methods.ts";
export type { Leaf, Selector, Tree } from "./tree.ts";
export { vmap, type VmapOptions } from "./vmap.ts";
