/**
 * For tests of what is written with Cotan: gradients against finite differences, arbitrary tensors for fast-check, and
 * tensors that are never freed.
 *
 * fast-check is the caller's: nothing here imports it.
 *
 * This module is browser compatible.
 *
 * @module
 */

export {
  arbitraries,
  type FastCheck,
  type HostRecord,
  type ShapeOptions,
  type TensorOptions,
} from "./arbitraries.ts";
export {
  type Argument,
  type AsTensor,
  checkGrads,
  type CheckGradsOptions,
} from "./check_grads.ts";
export {
  HostTensor,
  type HostTree,
  type OnBackend,
  toTensors,
} from "./host_tensor.ts";
export { assertNoLeaks } from "./leaks.ts";
